"""`pip install medseg[runtime]` in an environment of its own: what it weighs, and that its masks
are PyTorch's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from data.builders import scene
from inference.builders import manifest_and_weights
from medseg.data.io import read_mask
from medseg.export.graph import to_onnx
from medseg.inference.bundle import write_bundle
from medseg.inference.network import load_network

ROOT = Path(__file__).parents[2]
MAX_INSTALLED = 220e6
"""Without the models that come along, each of which may take ``MAX_MODEL``."""
MAX_MODEL = 5e6
MAX_RESIDENT = 400e6
TOOLS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence")
"""What a new environment holds without medseg."""

# Runs a command and says the most memory it, and nothing else, had.
MEASURE = """
import resource, subprocess, sys
ran = subprocess.run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(ran.returncode)
"""


class Environment(NamedTuple):
    """Where pip has installed medseg for predicting."""

    packages: Path
    medseg: Path


class Export(NamedTuple):
    """A full-size network, exported, with images."""

    model: Path
    images: Path


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("runtime")
    # Building leaves files in the sources.
    source = folder / "source"
    source.mkdir()
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    constraints = ["-c", ROOT / "constraints.txt"]
    subprocess.run([*pip, *constraints, f"{source}[runtime]"], check=True)
    (packages,) = (folder / "env" / "lib").glob("python*/site-packages")
    return Environment(packages, python.with_name("medseg"))


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    folder = tmp_path_factory.mktemp("export")
    path = folder / "model.medseg"
    manifest, weights = manifest_and_weights(size=256, options={})
    write_bundle(path, manifest, weights)
    write_bundle(path, manifest, weights, graph=to_onnx(load_network(path, device="cpu")))
    (folder / "images").mkdir()
    for number, size in enumerate([(256, 256), (601, 333), (40, 900), (1500, 2000)]):
        bands = [scene(3 * number + band).resize(size[::-1]) for band in range(3)]
        Image.merge("RGB", bands).save(folder / "images" / f"{number}.png")
    return Export(path, folder / "images")


def run(environment: Environment, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`medseg ARGUMENTS` in the environment, with nothing of ours on its path."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = [sys.executable, "-c", MEASURE, environment.medseg, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=kept, cwd=environment.medseg.parent
    )


def test_neither_pytorch_nor_scipy_nor_what_draws_comes_along(environment: Environment) -> None:
    there = {path.name.lower() for path in environment.packages.iterdir()}
    assert "onnxruntime" in there
    unwanted = {"torch", "scipy", "matplotlib", "jinja2", "safetensors", "accelerate", "onnx",
                "sympy", "openvino"}  # fmt: skip
    assert not unwanted & there


def test_it_stays_small(environment: Environment) -> None:
    files = [
        path
        for path in environment.packages.rglob("*")
        if path.is_file() and not path.relative_to(environment.packages).parts[0].startswith(TOOLS)
    ]
    models = [path for path in files if path.parent == environment.packages / "medseg/zoo/models"]
    assert models
    assert max(path.stat().st_size for path in models) < MAX_MODEL
    size = sum(path.stat().st_size for path in files) - sum(path.stat().st_size for path in models)
    assert size < MAX_INSTALLED


def test_masks_are_those_of_pytorch_in_little_memory(
    environment: Environment, export: Export, tmp_path: Path
) -> None:
    ran = run(environment, "predict", export.model, export.images, "-o", tmp_path / "out")
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    model = load_network(export.model, device="cpu")
    for path in sorted(export.images.iterdir()):
        shares = model.predict_probabilities(path)[0]
        found = read_mask(tmp_path / "out" / path.name).values == 255
        # Sums in another order differ in their last digits, which decides where nothing else does.
        clear = np.abs(shares - 0.5) > 1e-5
        assert 0.2 < found.mean() < 0.8
        assert clear.mean() > 0.999
        assert np.array_equal(found[clear], (shares >= 0.5)[clear]), path.name
    note = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert note["engines"] == ["onnx"]
    assert int(ran.stdout.split()[-1]) * 1024 < MAX_RESIDENT


def test_a_model_that_comes_along_predicts(environment: Environment, tmp_path: Path) -> None:
    photos = ROOT / "tests" / "zoo" / "cases" / "nuclei" / "images"
    ran = run(environment, "predict", "nuclei", photos, "-o", tmp_path / "out")
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    model = load_network("nuclei", device="cpu")
    for photo in photos.iterdir():
        mask = np.asarray(Image.open(tmp_path / "out" / f"{photo.stem}.png"))
        assert np.array_equal(mask, model.predict(photo))


def test_the_doctor_finds_it_whole(environment: Environment) -> None:
    ran = run(environment, "doctor")
    assert ran.returncode == 0, ran.stdout
    assert "training needs 'medseg[train]'" in ran.stdout


@pytest.mark.parametrize("verb", [["train", "x", "-o", "y"], ["data", "plan", "x"], ["demo"]])
def test_what_needs_pytorch_says_so_in_one_line(environment: Environment, verb: list[str]) -> None:
    ran = run(environment, *verb)
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: ")
    assert ran.stderr.endswith("pip install 'medseg[train]'\n")
    assert ran.stderr.count("\n") == 1
