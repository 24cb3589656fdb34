"""The demo with a hundredth of its work; tests/e2e/test_readme.py runs the real one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commands import left_in, medseg, parts_of
from medseg.cli import demo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "run"


@pytest.fixture(scope="module")
def shown(folder: Path) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "IMAGE_SIZE", 16)
        patch.setattr(demo, "EPOCHS", 1)
        ran = medseg("demo", "-o", folder)
    assert ran.code == 0
    return ran.out


def test_the_demo_names_what_it_made(shown: str, folder: Path) -> None:
    for path in ("report.html", "model.medseg", "masks/test/overlay", "page.html"):
        assert str(folder / path) in shown
        assert (folder / path).exists()
    assert "medseg train YOUR_FOLDER" in shown


def test_the_demo_scores_the_held_out_images_it_announces(shown: str, folder: Path) -> None:
    parts = parts_of(folder)
    counts = {part: len(cases) for part, cases in parts.items()}
    assert shown.startswith(
        f"Nuclei in {sum(counts.values())} microscopy images (BBBC038, CC0): "
        f"{counts['train']} to learn, {counts['val']} to choose, {counts['test']} to test\n"
    )
    assert f"over {counts['test']} cases, no failures" in shown
    scored = json.loads((folder / "scores" / "test.json").read_text())
    assert {row["case"] for row in scored["cases"]} == parts["test"]
    assert scored["note"] == ""
    overlays = {f"{case}.png" for case in parts["test"]}
    assert left_in(folder / "masks" / "test" / "overlay") == overlays


def test_a_second_call_shows_what_the_first_did(
    shown: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "IMAGE_SIZE", 16)
    monkeypatch.setattr(demo, "EPOCHS", 1)
    before = (folder / "model.medseg").read_bytes()
    again = medseg("demo", "-o", folder)
    assert again.code == 0
    assert again.out == shown.replace("opened for the 1st time", "opened for the 2nd time")
    assert (folder / "model.medseg").read_bytes() == before


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    refused = medseg("demo", "-o", tmp_path)
    assert refused.code == 2
    assert f"-o {tmp_path}: it exists and is not empty" in refused.err
    assert left_in(tmp_path) == {"thesis.txt"}
