"""Size, time and memory of a model's files, each measured in a process of its own.

``python -m medseg.export.measure ENGINE FILE IMAGE.npy THREADS [SYSTEM]`` prints what it finds as
JSON; nothing that one engine loads is in the memory of another.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ModelError
from medseg.inference.predictor import Predictor, load
from medseg.inference.volumes.predictor import VolumePredictor

RUNS, WARM_UP = 20, 3
RUNS_OF_VOLUMES = 5


@dataclass(frozen=True)
class Cost:
    """What a model's file costs on this machine.

    Attributes:
        milliseconds: median from decoded image to mask.
        fastest: the least of them, which other work on the machine disturbs least.
        peak_mb: largest resident memory of the whole process, in 10^6 bytes; None where the
            system does not tell.
    """

    milliseconds: float
    fastest: float
    peak_mb: float | None


def measure(
    path: Path,
    image: NDArray[Any],
    *,
    threads: int,
    weights: bool = False,
    system: str | None = None,
) -> Cost:
    """Measure one file.

    Args:
        path: a bundle, ``.onnx``, ``.xml`` or ``.pt``.
        image: ``(H, W, C)`` uint8; of a model of volumes ``(C, S, H, W)`` on the model's own
            grid.
        threads: that compute it.
        weights: of a bundle, take the weights, computed by PyTorch, and not the graph.
        system: for a bundle whose network came from a Python file: that file.

    Raises:
        ModelError: the process fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        stored = Path(scratch) / "image.npy"
        np.save(stored, image, allow_pickle=False)
        engine = "weights" if weights else "graph"
        arguments = [engine, path, stored, threads, *([system] if system else [])]
        done = subprocess.run(
            [sys.executable, "-m", __spec__.name, *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise ModelError(
            path.name, f"a process that predicts an image with it fails ({said})",
            "Free memory, or take another format",
        )  # fmt: skip
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def _main(engine: str, file: str, image: str, threads: str, system: str | None = None) -> None:
    predictor = _opened(engine, Path(file), int(threads), system)
    pixels = np.load(image, allow_pickle=False)
    runs = RUNS if predictor.manifest.volume is None else RUNS_OF_VOLUMES
    (times,) = time_predictions([predictor], pixels, runs=runs)
    peak = _high_water()
    found = {
        "milliseconds": statistics.median(times),
        "fastest": min(times),
        "peak_mb": None if peak is None else peak / 1e6,
    }
    print(json.dumps(found))


def _opened(engine: str, path: Path, threads: int, system: str | None) -> Predictor:
    if engine == "weights":
        # OMP_NUM_THREADS is set already.
        return load(path, device="cpu", engine="torch", system=system)
    from medseg.export.formats import open_artefact

    return open_artefact(path, threads=threads).predictor


def time_predictions(
    predictors: Sequence[Predictor], image: NDArray[Any], *, runs: int = RUNS
) -> list[list[float]]:
    """Milliseconds from decoded image to mask, ``runs`` times for each; predictors take turns, so
    that what disturbs one disturbs all."""
    times: list[list[float]] = [[] for _ in predictors]
    for turn in range(WARM_UP + runs):
        for predictor, found in zip(predictors, times, strict=True):
            begun = time.perf_counter()
            _predict(predictor, image)
            if turn >= WARM_UP:
                found.append(1000 * (time.perf_counter() - begun))
    return times


def _predict(predictor: Predictor, image: NDArray[Any]) -> None:
    if isinstance(predictor, VolumePredictor):
        predictor.predict_array(image, predictor.settings.spacing_mm)
    else:
        next(predictor.infer([predictor.prepare(image)], [(image.shape[0], image.shape[1])]))


def _high_water() -> int | None:
    """Bytes of the largest resident set this process has had."""
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        for line in lines:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


if __name__ == "__main__":
    _main(*sys.argv[1:])
