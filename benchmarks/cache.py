"""Size, opening time, memory and share of the cache of decoded images.

    python benchmarks/cache.py DATA

1. A cache of 20,000 synthetic colour images of 256 px: its size on disk, and in processes of their
   own the time to open it and the memory while an epoch of it is read; from these, the size that
   100,000 would take. Compressed sizes of DATA's real masks stand beside that of the synthetic.
2. Three epochs of `medseg train DATA` at 128 px with an empty cache: the first, from the start of
   `train` to its end, against the later ones; and what share of the later ones is spent waiting
   for data.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import RESULTS, save
from medseg.data.cache import CacheSettings, CaseCache, open_cache
from medseg.data.case import Case, Label, LabelMap
from medseg.data.io import MAX_PIXELS, MaskFile
from medseg.data.layouts import open_dataset
from medseg.data.loader import CachedBatch, training_batches
from medseg.data.preprocess import resize_mask
from medseg.data.source import Source

SIZE, COUNT, PROMISED = 256, 20_000, 100_000
BATCH = 8
LABELS = LabelMap((Label("background", 0), Label("disk", 255)))


@dataclass(frozen=True, slots=True)
class Synthetic(Source):
    """Noise with a bright disk, whose mask it also gives."""

    seed: int

    @property
    def files(self) -> tuple[Path, ...]:
        return (Path(f"{self.seed}"),)

    def _disk(self) -> NDArray[np.bool_]:
        rows, columns = np.ogrid[:SIZE, :SIZE]
        random = np.random.default_rng(self.seed)
        y, x, radius = random.integers((40, 40, 10), (216, 216, 60))
        inside: NDArray[np.bool_] = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        return inside

    def read_image(self, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        random = np.random.default_rng(self.seed)
        image = random.integers(0, 128, (SIZE, SIZE, 3), dtype=np.uint8)
        image[self._disk()] += 100
        return image

    def read_mask(self, *, max_pixels: int = MAX_PIXELS) -> MaskFile:
        return MaskFile(np.where(self._disk(), 255, 0).astype(np.int32))


def synthetic_cache(folder: Path) -> CaseCache:
    cases = [Case(str(i), Synthetic(i), Synthetic(i)) for i in range(COUNT)]
    settings = CacheSettings(SIZE, 3, LABELS, "auto", MAX_PIXELS)
    hashes = [case.id for case in cases]
    return open_cache(cases, hashes, settings, folder, limit=20_000_000_000)


def memory(kind: str = "VmRSS") -> float:
    """Memory of this process in MB, now; ``VmHWM`` for the most it has had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith(kind))


def read_an_epoch(folder: Path) -> dict[str, float]:
    """Open the cache, measure its channels, and read one epoch of batches."""
    started = time.perf_counter()
    cache = synthetic_cache(folder)
    cache.channel_statistics(np.arange(COUNT))
    opened = time.perf_counter() - started
    assert cache.reused
    started, seen = time.perf_counter(), []
    rows = np.arange(COUNT)
    for step, _ in enumerate(training_batches(cache, rows, batch_size=BATCH, seed=0, epoch=0)):
        if step % 250 == 0:
            seen.append(memory())
    return {
        "open_seconds": opened,
        "epoch_seconds": time.perf_counter() - started,
        "memory_after_first_batch_mb": seen[0],
        "most_memory_in_epoch_mb": max(seen),
        "peak_memory_mb": memory("VmHWM"),
    }


def compressed_masks(data: Path) -> float:
    """Mean bytes of DATA's masks at 256 px, compressed as in the cache."""
    sizes = []
    for case in open_dataset(data).cases:
        if case.mask is not None:
            mask = (case.mask.read_mask().values > 127).astype(np.uint8)
            sizes.append(len(zlib.compress(resize_mask(mask, SIZE).tobytes())))
    return float(np.mean(sizes))


def big_cache(data: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.perf_counter()
        cache = synthetic_cache(folder)
        built = time.perf_counter() - started
        peak = memory("VmHWM")
        on_disk = sum(file.stat().st_size for file in cache.folder.iterdir())
        found = subprocess.run(
            [sys.executable, __file__, "--read", name], check=True, capture_output=True, text=True
        )
        mask = int(cache.masks.offsets[-1]) / COUNT
    return {
        "images": COUNT,
        "image_size": SIZE,
        "build_seconds": built,
        "build_peak_memory_mb": peak,
        "gigabytes": on_disk / 1e9,
        "bytes_per_mask": mask,
        "bytes_per_mask_of_data": compressed_masks(data),
        f"gigabytes_of_{PROMISED}": on_disk / 1e9 * PROMISED / COUNT,
        **json.loads(found.stdout),
    }


def training(data: Path, size: int = 128, epochs: int = 3) -> dict[str, Any]:
    """Time the epochs of a training in this process, and its waiting for batches."""
    from medseg.engine import loop
    from medseg.engine.train import train

    waits: list[float] = []
    ends: list[float] = []
    end_epoch = loop.TrainingLoop._end_epoch

    def timed(*args: Any, **options: Any) -> Iterator[CachedBatch]:
        waits.append(0.0)
        batches = training_batches(*args, **options)
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            waits[-1] += time.perf_counter() - asked
            if batch is None:
                return
            yield batch

    def ended(self: loop.TrainingLoop, progress: Any) -> None:
        end_epoch(self, progress)
        ends.append(time.perf_counter())

    loop.training_batches = timed  # type: ignore[attr-defined]
    loop.TrainingLoop._end_epoch = ended  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        started = time.perf_counter()
        train(data, output=run, image_size=size, epochs=epochs, device="cpu")
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    wall = np.diff([started, *ends]).tolist()
    later = float(np.mean(wall[1:]))
    steps = [row["seconds"] for row in rows]
    return {
        "image_size": size,
        "epoch_seconds_with_checking_caching_and_validation": wall,
        "first_epoch_over_later": wall[0] / later,
        "waiting_share_of_later_steps": sum(waits[1:]) / sum(steps[1:]),
    }


def main() -> None:
    if sys.argv[1] == "--read":
        print(json.dumps(read_an_epoch(Path(sys.argv[2]))))
        return
    data = Path(sys.argv[1])
    measured = {"cache": big_cache(data), "training": training(data)}
    save(RESULTS / "cache.json", {"data": data.name, **measured})


if __name__ == "__main__":
    main()
