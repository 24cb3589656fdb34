"""The commands and the Python of README.md, as they stand there, on a tiny dataset."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from commands import TINY, Result, left_in, medseg, parts_of
from data.builders import noise, save, squares
from medseg.data.io import read_image, read_mask

README = Path(__file__).parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    text = README.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands() -> list[list[str]]:
    lines = [line for block in blocks("") for line in block.splitlines()]
    found = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("medseg ")]
    # The service does not end by itself; tests/serve starts it.
    ended = [line for line in found if line[0] != "serve"]
    # A training that starts from a model takes its network.
    cheap = {False: TINY, True: TINY[: TINY.index("--set")]}
    return [[*line, *cheap["--init" in line]] if line[0] == "train" else line for line in ended]


def python() -> str:
    (code,) = blocks("python")
    cheap = 'epochs=1, image_size=16, batch_size=2, device="cpu", settings=TINY'
    code, replaced = re.subn(r"epochs=\d+, image_size=\d+", cheap, code)
    assert replaced == 1
    return code


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the README takes for granted."""
    folder = tmp_path_factory.mktemp("readme")
    squares(folder / "photos", 20)
    squares(folder / "other_hospital", 3, size=31)
    for image in (folder / "other_hospital" / "images").iterdir():
        save(image, noise(900 + int(image.stem), (31, 31)))
    save(folder / "photo.jpg", noise(3, (40, 40)))
    save(folder / "new_images" / "0001.png", noise(1, (30, 50)))
    save(folder / "new_images" / "ward 3" / "0002.jpg", noise(2, (50, 30)))
    return folder


@pytest.fixture(scope="module")
def said(place: Path) -> dict[str, Result]:
    """What each command of the README said, run in order, by its first words."""
    before = os.getcwd()
    os.chdir(place)
    try:
        return {" ".join(line[:3]): medseg(*line) for line in commands()}
    finally:
        os.chdir(before)


def test_the_readme_shows_every_verb_of_the_main_job() -> None:
    verbs = [line[0] for line in commands()]
    assert verbs == [
        "data", "data", "train", "predict", "evaluate", "evaluate", "info", "systems",
        "models", "predict", "train",
    ]  # fmt: skip


def test_every_command_succeeds(said: dict[str, Result]) -> None:
    assert {command: result.code for command, result in said.items() if result.code} == {}


def test_training_leaves_a_model_and_a_report(said: dict[str, Result], place: Path) -> None:
    assert {"model.medseg", "report.html"} <= left_in(place / "runs" / "first")


def test_every_new_image_has_a_mask_and_an_overlay(said: dict[str, Result], place: Path) -> None:
    assert left_in(place / "masks") == {
        "0001.png", "ward 3/0002.png", "overlay/0001.png", "overlay/ward 3/0002.png",
        "predictions.json",
    }  # fmt: skip
    assert read_mask(place / "masks" / "0001.png").values.shape == (30, 50)
    assert read_image(place / "masks" / "overlay" / "ward 3" / "0002.png").shape == (50, 30, 3)


def test_evaluating_the_run_opens_the_test_part(said: dict[str, Result], place: Path) -> None:
    assert "photos (test part)" in said["evaluate photos/ runs/first"].out
    report = (place / "test.html").read_text(encoding="utf-8")
    assert all(f">{case}<" in report for case in parts_of(place / "runs" / "first")["test"])


def test_other_data_is_scored_whole_and_without_a_warning(said: dict[str, Result]) -> None:
    shown = said["evaluate other_hospital/ runs/first"].out
    assert "over 3 cases, no failures" in shown
    assert "Leak" not in shown


def test_the_predicted_masks_score_as_the_run_does(
    said: dict[str, Result], place: Path, tmp_path: Path
) -> None:
    data, run = place / "other_hospital", place / "runs" / "first"
    medseg("predict", run, data, "-o", tmp_path / "masks")
    for name, given in (("masks", tmp_path / "masks"), ("run", run)):
        medseg("evaluate", data, given, "-o", tmp_path / f"{name}.json")
    masks, model = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("masks", "run"))
    assert masks["cases"] == model["cases"]
    assert masks["summary"] == model["summary"]


def test_python_trains_the_same_model_and_predicts_the_same_masks(
    said: dict[str, Result], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("photos", "new_images"):
        (tmp_path / name).symlink_to(place / name)
    monkeypatch.chdir(tmp_path)
    settings = [TINY[i + 1] for i, option in enumerate(TINY) if option == "--set"]
    names: dict[str, Any] = {"TINY": settings}
    exec(python(), names)
    assert isinstance(names["net"], nn.Module)
    ours, theirs = (p / "runs" / "first" / "model.medseg" for p in (tmp_path, place))
    assert ours.read_bytes() == theirs.read_bytes()
    assert np.array_equal(names["mask"], read_mask(place / "masks" / "0001.png").values)
    assert (tmp_path / "test.html").is_file()


@pytest.mark.slow
def test_the_demo_reaches_a_held_out_dice_of_85_percent(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    subprocess.run(
        [sys.executable, "-m", "medseg", "demo", "-o", str(tmp_path / "run")],
        check=True, env=environment,
    )  # fmt: skip
    scores = json.loads((tmp_path / "run" / "scores" / "test.json").read_text())
    assert scores["summary"]["mean"]["dice"]["mean"] >= 0.85
    assert scores["counts"]["failures"] == 0
    assert scores["note"] == ""
