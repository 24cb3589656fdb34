"""Memory, speed and cores of `medseg evaluate` on many small pairs of masks.

    python benchmarks/evaluation.py

Scores 10,000 and then 100,000 pairs of masks of 128 x 128 pixels, each in a process of its own,
with the default metrics. Files beyond the first 1,000 are links to these: what is read is as much,
what lies on the disk is not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from common import RESULTS, save
from medseg.data.io import write_mask
from medseg.metrics.folders import evaluate_folders

SIZE, DISTINCT, COUNTS = 128, 1_000, (10_000, 100_000)


def blob(seed: int, shift: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    rows, columns = np.ogrid[:SIZE, :SIZE]
    y, x, radius = np.random.default_rng(seed).integers((30, 30, 8), (98, 98, 30))
    return np.where((rows - y) ** 2 + (columns - x - shift) ** 2 < radius**2, 255, 0).astype("u1")


def make_pairs(root: Path, count: int) -> None:
    for name, shift in (("truth", 0), ("predicted", 2)):
        folder = root / name
        folder.mkdir()
        for index in range(count):
            path = folder / f"{index:06}.png"
            if index < DISTINCT:
                write_mask(path, blob(index, shift))
            else:
                os.link(folder / f"{index % DISTINCT:06}.png", path)


def score(root: Path) -> dict[str, float]:
    started, used = time.perf_counter(), time.process_time()
    evaluation = evaluate_folders(root / "truth", root / "predicted")
    seconds = time.perf_counter() - started
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) / 1e3 for line in status if line.startswith("VmHWM"))
    return {
        "pairs": len(evaluation.rows),
        "seconds": seconds,
        "pairs_per_second": len(evaluation.rows) / seconds,
        "cores_busy": (time.process_time() - used) / seconds,
        "peak_memory_mb": peak,
        "dice": evaluation.overall["dice"].mean or 0.0,
    }


def main() -> None:
    if sys.argv[1:2] == ["--score"]:
        print(json.dumps(score(Path(sys.argv[2]))))
        return
    found = []
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as folder:
            make_pairs(Path(folder), count)
            ran = subprocess.run(
                [sys.executable, __file__, "--score", folder],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
        found.append(json.loads(ran.stdout))
    more = found[1]["peak_memory_mb"] - found[0]["peak_memory_mb"]
    per_pair = more * 1e6 / (COUNTS[1] - COUNTS[0])
    save(
        RESULTS / "evaluation.json", {"image_size": SIZE, "runs": found, "bytes_per_pair": per_pair}
    )


if __name__ == "__main__":
    main()
