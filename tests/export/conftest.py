"""One tiny model and its graph for all tests here: PyTorch takes seconds to write a graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.builders import ORGANS, manifest_and_weights
from medseg.export.graph import to_onnx
from medseg.export.parity import synthetic_cases
from medseg.inference.bundle import stored_golden, write_bundle
from medseg.inference.network import Model, load_network


def noise(size: tuple[int, int], seed: int = 0, channels: int = 3) -> NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (*size, channels), dtype=np.uint8)


def with_golden(path: Path, *args: object, **options: object) -> Path:
    """A bundle of random weights with three golden cases."""
    manifest, weights = manifest_and_weights(*args, **options)  # type: ignore[arg-type]
    write_bundle(path, manifest, weights)
    golden = synthetic_cases(load_network(path, device="cpu"))
    manifest = manifest.model_copy(update={"golden": stored_golden(golden)})
    write_bundle(path, manifest, weights, golden=golden, card="# Noise\n")
    return path


@pytest.fixture(scope="session")
def organs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of three classes with golden cases; tests that change it copy it first."""
    return with_golden(tmp_path_factory.mktemp("organs") / "model.medseg", ORGANS, size=24)


@pytest.fixture(scope="session")
def model(organs: Path) -> Model:
    return load_network(organs, device="cpu")


@pytest.fixture(scope="session")
def graph(model: Model) -> bytes:
    return to_onnx(model)
