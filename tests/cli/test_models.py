"""`medseg models list`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from commands import medseg
from inference.builders import manifest_and_weights
from medseg import zoo
from medseg.inference.bundle import write_bundle

SCORES = {"test_dice": 0.91234, "test_dice_low": 0.9, "test_dice_high": 0.92, "test_cases": 100.0}


@pytest.fixture
def polyp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "polyp.medseg"
    manifest, weights = manifest_and_weights({"background": 0, "polyp": 255})
    write_bundle(path, manifest.model_copy(update={"scores": SCORES}), weights)
    monkeypatch.setattr(zoo, "SHIPPED", ("polyp",))
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    return path


def test_the_list_says_what_for_how_good_how_large_and_under_which_licence(polyp: Path) -> None:
    ran = medseg("models", "list")
    assert ran.code == 0
    first, *lines = ran.out.splitlines()
    assert re.fullmatch("polyp +polyps in colour images of a colonoscopy", first)
    shown = {line[2:13].strip(): line[13:] for line in lines}
    size = polyp.stat().st_size
    assert shown.keys() == {"classes", "test Dice", "size", "licence", "data"}
    assert shown["classes"] == "polyp"
    assert shown["test Dice"] == "0.9123 (95 % interval 0.9000 to 0.9200, 100 cases)"
    assert shown["size"].startswith(f"{size / 1e6:.1f} MB, ")
    assert shown["licence"] == "CC-BY-4.0"
    assert "HyperKvasir" in shown["data"]
    assert "Borgli" in shown["data"]
    assert medseg("models").out == ran.out


def test_json_holds_all_of_it(polyp: Path) -> None:
    (model,) = json.loads(medseg("models", "list", "--json").out)
    assert model["name"] == "polyp"
    assert model["scores"] == SCORES
    assert model["classes"] == ["background", "polyp"]
    assert model["bytes"] == polyp.stat().st_size


def test_a_copy_without_models_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "SHIPPED", ())
    assert medseg("models", "list").out == "No models come with this copy of medseg.\n"
    assert json.loads(medseg("models", "list", "--json").out) == []
