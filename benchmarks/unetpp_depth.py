"""What pruning a trained UNet++ costs and saves: test Dice and time at every depth.

    python benchmarks/unetpp_depth.py RUN DATA results/NAME.json

RUN is a finished `medseg train DATA --system unetpp`; for results/unetpp-depth.json it had
`--image-size 64 --epochs 6 --batch-size 8 --set network.widths=[8,16,32,64,128]`. Dice is that of
`medseg evaluate` of the test part, at the images' own size. Times are of the
processor, in one thread, depths taken in turns, so that other work on the machine does not show.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from common import save
from medseg.benchmark.efficiency import count_macs
from medseg.export.pruned import pruned_file
from medseg.inference.bundle import find_bundle, read_manifest
from medseg.inference.network import Model, load_network
from medseg.scoring import evaluate

SIZES = (64, 256)
ROUNDS = 20


def score(run: Path, data: Path, depth: int) -> dict[str, Any]:
    """Test scores of the pruned model, as a run that knows the same split."""
    with (
        pruned_file(find_bundle(run), depth, None) as bundle,
        tempfile.TemporaryDirectory() as folder,
    ):
        for name in ("recipe.yaml", "split.csv", "data.json"):
            shutil.copyfile(run / name, Path(folder) / name)
        shutil.copyfile(bundle, Path(folder) / "model.medseg")
        evaluation = evaluate(data, folder, part="test", device="cpu")
    return {name: asdict(evaluation.overall[name]) for name in ("dice", "iou")}


@torch.inference_mode()
def times(models: dict[int, Model], size: int) -> dict[int, float]:
    """Median milliseconds of the processor that an image of ``size`` takes at each depth."""
    image = torch.randn(1, models[1].manifest.preprocessing.channels, size, size)
    taken: dict[int, list[float]] = {depth: [] for depth in models}
    for _ in range(ROUNDS):
        for depth, model in models.items():
            before = time.process_time()
            model.network(image)
            taken[depth].append(1000 * (time.process_time() - before))
    return {depth: round(statistics.median(each), 2) for depth, each in taken.items()}


def main() -> None:
    torch.set_num_threads(1)
    run, data, output = map(Path, sys.argv[1:])
    manifest = read_manifest(find_bundle(run))
    depths = range(1, len(manifest.network["widths"]))
    models = {depth: load_network(run, device="cpu", depth=depth) for depth in depths}
    milliseconds = {size: times(models, size) for size in SIZES}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    channels = manifest.preprocessing.channels
    save(
        output,
        {
            "trained_on": data.name,
            "system": manifest.system,
            "seed": manifest.recipe["seed"],
            "epochs": len(rows),
            "recipe": manifest.recipe,
            "data": {key: value for key, value in manifest.data.items() if key != "seen"},
            "weights_sha256": manifest.weights_sha256,
            "depths": {
                depth: {
                    "parameters": model.manifest.parameters,
                    "macs": {
                        size: count_macs(model.network, torch.zeros(1, channels, size, size))
                        for size in SIZES
                    },
                    "cpu_milliseconds": {size: milliseconds[size][depth] for size in SIZES},
                    "test": score(run, data, depth),
                }
                for depth, model in models.items()
            },
        },
    )


if __name__ == "__main__":
    main()
