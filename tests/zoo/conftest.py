"""A model that is shipped by the tool, from a tiny run."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from medseg import zoo

TOOL = Path(__file__).parents[2] / "tools" / "ship_model.py"


class Shipped(NamedTuple):
    """What the tool was given and wrote."""

    run: Path
    model: Path
    cases: Path


@pytest.fixture(scope="session")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ship_model", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def shipped(
    tool: ModuleType, trained: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> Shipped:
    """The run ``trained`` as the model ``nuclei``."""
    folder = tmp_path_factory.mktemp("zoo")
    run = Path(shutil.copytree(trained, folder / "run"))
    (run / "test_openings.jsonl").unlink(missing_ok=True)
    tool.ship(run, "nuclei", photos, models=folder / "models", cases=folder / "cases")
    return Shipped(run, folder / "models" / "nuclei.medseg", folder / "cases" / "nuclei")


@pytest.fixture
def nuclei(shipped: Shipped, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shipped:
    """The same, as if it came with medseg; the working folder is empty."""
    monkeypatch.setattr(zoo, "SHIPPED", ("nuclei",))
    monkeypatch.setattr(zoo, "FOLDER", shipped.model.parent)
    monkeypatch.chdir(tmp_path)
    return shipped
