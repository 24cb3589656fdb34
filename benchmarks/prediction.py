"""Prediction of 100 images, file to file, against the bare network on a batch in memory.

    python benchmarks/prediction.py DATA

Both run in this process, taking turns, with the same random weights.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from common import RESULTS, random_model, save
from medseg.data.layouts import open_dataset
from medseg.inference.files import predict_images

IMAGES, BATCH, ROUNDS = 100, 8, 3
SIZE = 256


def main() -> None:
    cases = open_dataset(Path(sys.argv[1])).cases[:IMAGES]
    images = {case.id: case.image for case in cases}
    model = random_model("med2d-segnet", SIZE)
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
