"""Predicting without PyTorch: installed size, start, memory, time over bare ONNX Runtime.

    python benchmarks/runtime.py DATA

A new environment gets `medseg[runtime]`; a bundle of random weights is exported here and used
there. Bare ONNX Runtime and `medseg predict` take turns in one process on the same images, which
are in the system's file cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_safetensors

from common import RESULTS, save
from medseg.data.layouts import open_dataset
from medseg.export.graph import to_onnx
from medseg.inference.bundle import Manifest
from medseg.inference.network import Model
from medseg.models import create_model
from medseg.nn.blocks import count_parameters

ROOT = Path(__file__).parents[1]
SIZE, IMAGES, ROUNDS, STARTS = 256, 60, 5, 9
TOOLS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence")

# Runs a command and says its seconds, its processor seconds and the most memory it had.
MEASURE = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
seconds = time.perf_counter() - started
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6]))
"""

LATENCY = """
import json, sys, tempfile, time
from pathlib import Path
import numpy as np
from medseg.data.io import read_image
from medseg.inference.files import predict_files
from medseg.inference.runtime import load_onnx, open_session
graph, rounds, images = Path(sys.argv[1]), int(sys.argv[2]), [Path(p) for p in sys.argv[3:]]
arrays = [read_image(path)[None] for path in images]
session, model = open_session(graph.read_bytes()), load_onnx(graph)
session.run(["mask"], {"image": arrays[0]})
model.predict(images[0])
found = []
for _ in range(rounds):
    started = time.perf_counter(), time.process_time()
    for array in arrays:
        session.run(["mask"], {"image": array})
    bare = time.perf_counter() - started[0], time.process_time() - started[1]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter(), time.process_time()
        predict_files(model, images, folder)
        files = time.perf_counter() - started[0], time.process_time() - started[1]
    found.append([x / len(images) * 1e3 for x in (*bare, *files)])
print(json.dumps(found))
"""


def random_graph() -> bytes:
    torch.manual_seed(0)
    network = create_model("med2d-segnet")
    weights = to_safetensors(network.state_dict())
    manifest = Manifest.model_validate(
        {
            "system": "med2d-segnet", "network": {}, "num_classes": 1,
            "labels": [{"name": "background", "value": 0}, {"name": "object", "value": 255}],
            "preprocessing": {"image_size": SIZE, "channels": 3, "mean": [0.5] * 3,
                              "std": [0.25] * 3},
            "recipe": {}, "data": {}, "scores": {}, "parameters": count_parameters(network),
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
        }
    )  # fmt: skip
    return to_onnx(Model(manifest, network, device="cpu"))


def install(folder: Path) -> Path:
    """An environment with `medseg[runtime]`; the way to its packages."""
    source = folder / "source"
    source.mkdir()
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    venv.create(folder / "env", with_pip=True)
    subprocess.run(
        [folder / "env/bin/python", "-m", "pip", "install", "--quiet",
         "-c", ROOT / "constraints.txt", f"{source}[runtime]"],
        check=True,
    )  # fmt: skip
    (packages,) = (folder / "env" / "lib").glob("python*/site-packages")
    return packages


def megabytes(packages: Path) -> dict[str, float]:
    """All packages but those of a new environment, and the largest of them."""
    sizes: dict[str, float] = {}
    for path in packages.rglob("*"):
        top = path.relative_to(packages).parts[0]
        if path.is_file() and not top.startswith(TOOLS):
            sizes[top] = sizes.get(top, 0) + path.stat().st_size / 1e6
    largest = sorted(sizes, key=lambda name: -sizes[name])[:6]
    return {
        "all": round(sum(sizes.values()), 1),
        **{name: round(sizes[name], 1) for name in largest},
    }


def measured(python: Path, *command: object) -> list[float]:
    ran = subprocess.run(
        [python, "-c", MEASURE, *map(str, command)], check=True, capture_output=True, text=True
    )
    found: list[float] = json.loads(ran.stdout)
    return found


def main() -> None:
    cases = open_dataset(Path(sys.argv[1])).cases[:IMAGES]
    images = [case.image.files[0] for case in cases]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        graph = folder / "model.onnx"
        graph.write_bytes(random_graph())
        packages = install(folder)
        python, medseg = folder / "env/bin/python", folder / "env/bin/medseg"
        starts = []
        for number in range(STARTS):
            out = folder / f"one {number}"
            starts.append(measured(python, medseg, "predict", graph, images[0], "-o", out))
            time.sleep(0.2)
        many = measured(python, medseg, "predict", graph, *images, "-o", folder / "many")
        ran = subprocess.run(
            [python, "-c", LATENCY, graph, str(ROUNDS), *images],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        rounds: list[list[float]] = json.loads(ran.stdout)
        seconds, processor, resident = (list(each) for each in zip(*starts, strict=True))
        bare, bare_processor, files, files_processor = (
            [round(x, 2) for x in each] for each in zip(*rounds, strict=True)
        )
        save(
            RESULTS / "runtime.json",
            {
                "setting": _setting(len(images)),
                "installed_mb": megabytes(packages),
                "start_to_first_mask_s": {
                    "median": round(statistics.median(seconds), 3),
                    "least": round(min(seconds), 3),
                    "least_processor": round(min(processor), 3),
                },
                "resident_mb": {
                    "one image": round(max(resident), 1),
                    f"{len(images)} images": round(many[2], 1),
                },
                "ms_per_image": {"bare": bare, "predict": files},
                "processor_ms_per_image": {"bare": bare_processor, "predict": files_processor},
                "ratio": {
                    "of the least": round(min(files) / min(bare), 3),
                    "median": round(
                        statistics.median(f / b for f, b in zip(files, bare, strict=True)), 3
                    ),
                    "processor": round(min(files_processor) / min(bare_processor), 3),
                },
            },
        )


def _setting(images: int) -> dict[str, Any]:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "system": "med2d-segnet",
        "image_size": SIZE,
        "images": images,
        "threads": os.environ.get("OMP_NUM_THREADS", "all cores"),
        "load_of_the_machine": None if load is None else round(load, 1),
    }


if __name__ == "__main__":
    main()
