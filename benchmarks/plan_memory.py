"""The memory that `medseg data plan` forecasts against the peak that `medseg train` reaches.

    python benchmarks/plan_memory.py

Every setting trains two epochs on 24 synthetic images, in a process of its own, on the CPU; the
forecast is the one that the run itself wrote into its `plan.json` before it began. The peak is
the largest resident set of the process as the system counts it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common import RESULTS, save

SETTINGS = (
    *(("med2d-segnet", size, batch) for size in (64, 128, 256) for batch in (1, 3, 8)),
    *(("unet-narrow", size, batch) for size, batch in ((128, 1), (128, 8), (256, 3))),
    *(("unet", size, batch) for size, batch in ((64, 1), (64, 3), (128, 3), (128, 8))),
)
IMAGES, EPOCHS = 24, 2


def make_images(folder: Path) -> None:
    """Noise with a bright square, 96 px."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(IMAGES):
        random = np.random.default_rng(number)
        image = random.integers(0, 90, (96, 96, 3), dtype=np.uint8)
        mask = np.zeros((96, 96), np.uint8)
        top, left = random.integers(0, 48, 2)
        mask[top : top + 32, left : left + 32] = 255
        image[mask > 0] += 120
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")


def train(data: Path, run: Path, system: str, size: int, batch: int) -> dict[str, Any]:
    """Forecast and measured peak, in GB."""
    process = subprocess.Popen(
        [sys.executable, "-m", "medseg", "train", str(data), "-o", str(run), "--system", system,
         "--image-size", str(size), "--batch-size", str(batch), "--epochs", str(EPOCHS),
         "--device", "cpu", "--set", "data.ratios=[0.8, 0.2, 0]"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"medseg train {system} {size} px x {batch} ended with status {status}")
    forecast = json.loads((run / "plan.json").read_text())["memory"]["forecast_gb"]
    peak = usage.ru_maxrss * 1024 / 1e9
    return {
        "system": system,
        "image_size": size,
        "batch_size": batch,
        "forecast_gb": forecast,
        "peak_gb": round(peak, 3),
        "forecast_over_peak": round(forecast / peak, 3),
    }


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        make_images(data)
        for number, setting in enumerate(SETTINGS):
            rows.append(train(data, Path(folder) / f"run{number}", *setting))
            print(rows[-1], file=sys.stderr, flush=True)
    ratios = [row["forecast_over_peak"] for row in rows]
    save(
        RESULTS / "plan_memory.json",
        {
            "setting": {"images": IMAGES, "epochs": EPOCHS, "device": "cpu"},
            "forecast_over_peak": {"smallest": min(ratios), "largest": max(ratios)},
            "trainings": rows,
        },
    )


if __name__ == "__main__":
    main()
