"""Memory, speed and cores of `medseg evaluate` on many small pairs of masks.

    python benchmarks/evaluation.py [FEW MANY]

Scores FEW (10,000) pairs of masks of 128 x 128 pixels in one process and with a worker for each
core, and then MANY (100,000) with workers, each time in a process of its own, with the default
metrics. Files beyond the first 1,000 are links to these: what is read is as much, what lies on the
disk is not. Processor seconds tell what was worked, also where other programs took the cores.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from common import RESULTS, save
from medseg.cores import cores
from medseg.data.io import write_mask
from medseg.metrics.folders import evaluate_folders

SIZE, DISTINCT = 128, 1_000
FEW, MANY = 10_000, 100_000


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


def processor_seconds() -> float:
    used = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def score(root: Path, workers: int) -> dict[str, float]:
    started, used = time.perf_counter(), processor_seconds()
    evaluation = evaluate_folders(root / "truth", root / "predicted", workers=workers)
    seconds = time.perf_counter() - started
    used = processor_seconds() - used
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) / 1e3 for line in status if line.startswith("VmHWM"))
    count = len(evaluation.rows)
    return {
        "pairs": count,
        "workers": workers,
        "seconds": seconds,
        "pairs_per_second": count / seconds,
        "processor_seconds": used,
        "pairs_per_processor_second": count / used,
        "cores_busy": used / seconds,
        "peak_memory_mb": peak,
        "dice": evaluation.overall["dice"].mean or 0.0,
    }


def main() -> None:
    if sys.argv[1:2] == ["--score"]:
        print(json.dumps(score(Path(sys.argv[2]), int(sys.argv[3]))))
        return
    few, many = map(int, sys.argv[1:3]) if len(sys.argv) > 2 else (FEW, MANY)
    found = []
    for count, workers in ((few, 1), (few, cores()), (many, cores())):
        with tempfile.TemporaryDirectory() as folder:
            make_pairs(Path(folder), count)
            ran = subprocess.run(
                [sys.executable, __file__, "--score", folder, str(workers)],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
        found.append(json.loads(ran.stdout))
    more = found[2]["peak_memory_mb"] - found[1]["peak_memory_mb"]
    save(
        RESULTS / "evaluation.json",
        {"image_size": SIZE, "runs": found, "bytes_per_pair": more * 1e6 / (many - few)},
    )


if __name__ == "__main__":
    main()
