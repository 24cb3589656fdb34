from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmark.grids import tiny
from data.builders import squares
from medseg import benchmark
from medseg.benchmark.runner import Grid
from medseg.benchmark.spec import parse_spec

GRID = ["train.epochs=2", "train.batch_size=4", "data.image_size=16"]


@pytest.fixture(scope="session")
def grid(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Grid:
    """A network that trains and one that raises, two seeds, and unseen data whose images are
    among the training ones."""
    folder = tmp_path_factory.mktemp("grid")
    others = squares(folder / "others", 6)
    values = tiny(folder, data=[str(photos)], unseen=[str(others)], seeds=2)
    values |= {"systems": [*values["systems"], str(folder / "bad.py")], "set": GRID}
    return benchmark.run(parse_spec(values), folder / "out", device="cpu", quiet=True, report=False)


@pytest.fixture
def copied(grid: Grid, tmp_path: Path) -> Path:
    return shutil.copytree(grid.folder, tmp_path / "out")
