"""`medseg data check` beside decoding the files and nothing else, and the search at 20,000 images.

python benchmarks/data_check.py ../shared/data/kvasir_seg
"""

from __future__ import annotations

import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from common import RESULTS, save
from medseg.data.case import Case
from medseg.data.duplicates import SIDE, find_near
from medseg.data.integrity import check_dataset
from medseg.data.layouts import open_dataset

ROUNDS = 5
MANY = 20_000


def seconds(work: Callable[[], object]) -> float:
    """Median wall time."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def decode(case: Case) -> None:
    case.image.read_image()
    if case.mask is not None:
        case.mask.read_mask()


def pictures(count: int) -> np.ndarray:
    """Thumbnails of random clouds."""
    rng = np.random.default_rng(0)
    made = np.empty((count, SIDE, SIDE), np.uint8)
    for number in range(count):
        cloud = sum(
            np.asarray(
                Image.fromarray(rng.random((cells, cells), dtype=np.float32)).resize(
                    (SIDE, SIDE), Image.Resampling.BICUBIC
                )
            )
            / cells**0.5
            for cells in (3, 6, 12)
        )
        made[number] = 25 + 200 * (cloud - np.min(cloud)) / np.ptp(cloud)
    return made


def search(thumbnails: np.ndarray) -> dict[str, float]:
    started = time.perf_counter()
    found = find_near(thumbnails, [None] * len(thumbnails))
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "pairs": len(found.matches),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    dataset = open_dataset(Path(sys.argv[1]))

    def decode_all() -> None:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            list(pool.map(decode, dataset.cases))

    decode_all()
    survey = check_dataset(dataset)
    shown = np.stack(list(survey.thumbnails.values()))
    decoding, checking = seconds(decode_all), seconds(lambda: check_dataset(dataset))
    searching = seconds(lambda: find_near(shown, [None] * len(shown)))
    unlike = pictures(MANY)
    alike = (0.6 * unlike[:1] + 0.4 * unlike).astype(np.uint8)
    save(
        RESULTS / "data_check.json",
        {
            "dataset": dataset.root.name,
            "cases": len(dataset.cases),
            "decoding_seconds": round(decoding, 2),
            "check_seconds": round(checking, 2),
            "check_over_decoding": round(checking / decoding, 2),
            "near_duplicates_seconds": round(searching, 2),
            "near_pairs": len(survey.near),
            f"search_{MANY}_unlike": search(unlike),
            f"search_{MANY}_alike": search(alike),
        },
    )


if __name__ == "__main__":
    main()
