"""Prediction of 100 images, file to file, against the bare network on a batch in memory.

    python benchmarks/prediction.py DATA

Both run in this process, taking turns, with the same random weights.
"""

from __future__ import annotations

import hashlib
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from common import RESULTS, save
from medseg.data.layouts import open_dataset
from medseg.inference.bundle import Manifest
from medseg.inference.files import predict_images
from medseg.inference.network import Model
from medseg.models import create_model

SIZE, IMAGES, BATCH, ROUNDS = 256, 100, 8, 3


def random_model() -> Model:
    torch.manual_seed(0)
    network = create_model("med2d-segnet")
    manifest = Manifest.model_validate(
        {
            "system": "med2d-segnet", "network": {}, "num_classes": 1,
            "labels": [{"name": "background", "value": 0}, {"name": "object", "value": 255}],
            "preprocessing": {"image_size": SIZE, "channels": 3, "mean": [0.5] * 3,
                              "std": [0.25] * 3},
            "recipe": {}, "data": {}, "scores": {}, "parameters": 0,
            "weights_sha256": hashlib.sha256(b"").hexdigest(),
        }
    )  # fmt: skip
    return Model(manifest, network, device="cpu")


def main() -> None:
    cases = open_dataset(Path(sys.argv[1])).cases[:IMAGES]
    images = {case.id: case.image for case in cases}
    model = random_model()
    batch = torch.randn(BATCH, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    bare, files = [], []
    for _ in range(ROUNDS):
        with torch.inference_mode():
            model.network(batch)
            started = time.perf_counter()
            for _ in range(-(-IMAGES // BATCH)):
                model.network(batch)
            bare.append(-(-IMAGES // BATCH) * BATCH / (time.perf_counter() - started))
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            predict_images(model, images, folder)
            files.append(len(images) / (time.perf_counter() - started))
    save(
        RESULTS / "prediction.json",
        {
            "setting": {"image_size": SIZE, "images": len(images), "bare_batch": BATCH},
            "bare_images_per_second": [round(x, 2) for x in bare],
            "file_to_file_images_per_second": [round(x, 2) for x in files],
            "ratio": round(statistics.median(files) / statistics.median(bare), 3),
        },
    )


if __name__ == "__main__":
    main()
