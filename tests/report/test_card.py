from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commands import medseg
from inference.builders import ORGANS, bundle, manifest_and_weights
from medseg.errors import DataError
from medseg.inference.bundle import (
    Golden,
    Manifest,
    Postprocessing,
    read_card,
    read_manifest,
    write_bundle,
)
from medseg.report.card import card_of, model_card

MANIFEST = manifest_and_weights(ORGANS)[0].model_copy(
    update={
        "temperature": 1.75,
        "scores": {"val_dice": 0.81234, "val_ece_uncalibrated": 0.125, "val_ece": 0.03125},
        "postprocessing": Postprocessing(keep_largest=True, min_pixels=40),
        "licence": "CC-BY-4.0",
        "parameters": 1_234_567,
        "data": {
            "name": "livers", "cases": {"train": 70, "val": 13, "test": 17}, "content": "0123abcd",
            "height": [200, 512], "width": [300, 640], "leak": "",
        },
        "recipe": {
            "seed": 7,
            "data": {"fold": 2, "folds": 5},
            "train": {"epochs": 90, "batch_size": 12, "precision": "bf16"},
        },
    }
)  # fmt: skip


def interval(mean: float | None, low: float | None = None, high: float | None = None) -> Any:
    return {"mean": mean, "low": low, "high": high, "n": 17, "skipped": 0, "groups": None}


def scores(**changes: Any) -> dict[str, Any]:
    found = {
        "test_openings": 2,
        "confidence": 0.95,
        "convention": "default",
        "note": "",
        "summary": {
            "mean": {"dice": interval(0.71, 0.65, 0.76), "hd95": interval(None)},
            "classes": {
                "liver": {"dice": interval(0.9, 0.88, 0.91)},
                "vein": {"dice": interval(0.52)},
            },
        },
    }
    return {**found, **changes}


def section(card: str, title: str) -> str:
    return card.partition(f"## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize(
    ("title", "said"),
    [
        ("What it is", ["med2d-segnet, 1,234,567 parameters", "liver (value 10)", "CC-BY-4.0",
                        "32 x 32 pixels", "the most probable class", "only the largest component",
                        "below 40 pixels"]),
        ("Data", ["livers", "70 train, 13 val, 17 test", "0123abcd", "not stated"]),
        ("Protocol", ["fold 2 of 5", "Seed: 7", "61 of at most 90 epochs", "12 images a step",
                      "bf16", "best validation Dice"]),
        ("Scores", ["0.8123", "Not scored on a test part yet", "medseg evaluate DATA RUN"]),
        ("Calibration", ["1.75", "0.1250 before", "0.0312 after"]),
        ("Golden cases", ["holds no images"]),
        ("Not to be used for", ["not a medical device", "no diagnosis"]),
        ("Limits", ["below 200 or above 512", "below 300 or above 640", "other than 3 channels"]),
    ],
)  # fmt: skip
def test_a_card_says(title: str, said: list[str]) -> None:
    text = section(model_card(MANIFEST, epochs=61), title)
    assert [each for each in said if each not in text] == []


def test_test_scores_stand_with_their_intervals() -> None:
    text = section(model_card(MANIFEST, test=scores()), "Scores")
    assert "dice: 0.7100, 95 % interval 0.6500 to 0.7600, 17 cases" in text
    assert "hd95: undefined" in text
    assert "dice of liver: 0.9000, 95 % interval 0.8800 to 0.9100" in text
    assert "dice of vein: 0.5200, no interval" in text
    assert "opened 2 times" in text
    assert "Not scored" not in text


def test_a_model_that_knows_little_of_itself_has_a_card() -> None:
    bare = MANIFEST.model_copy(update={"recipe": {}, "data": {}, "scores": {}, "licence": ""})
    card = model_card(bare)
    assert "Name: not stated" in card
    assert "Licence of the model: not stated" in card
    assert "Not calibrated" in card
    assert "None" not in card.replace("None: the file", "")


def test_a_leak_is_said_in_bold() -> None:
    leaking = MANIFEST.model_copy(update={"data": {**MANIFEST.data, "leak": "Leak: 3 patients"}})
    assert "**Leak: 3 patients**" in section(model_card(leaking), "Data")


def test_golden_cases_are_called_real_images(tmp_path: Path) -> None:
    golden = [Golden(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8))] * 2
    written = write_bundle(tmp_path / "m.medseg", MANIFEST, b"", golden=golden)
    text = section(model_card(written), "Golden cases")
    assert text.strip().startswith("2 images of the validation part")
    assert "real images" in text


def test_names_are_text_and_no_markdown(tmp_path: Path) -> None:
    odd = MANIFEST.model_copy(update={"data": {"name": "a\n\n# b\x1b[2J <img src=x> [c](d)"}})
    card = model_card(odd)
    assert all(line.isprintable() for line in card.splitlines())
    assert "\n# b" not in card
    assert "a \\# b\\[2J \\<img src=x\\> \\[c\\](d)" in card


def test_a_bundle_without_a_card_gets_one_of_what_it_says_of_itself(tmp_path: Path) -> None:
    path = bundle(tmp_path / "m.medseg")
    assert read_card(path) == ""
    assert card_of(path) == model_card(read_manifest(path))


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("cache"))


def scored(run: Path, found: Any, weights: str | None = None) -> Manifest:
    """A run of which ``scores/test.json`` holds ``found``."""
    manifest = read_manifest(run / "model.medseg")
    opening = {"weights_sha256": weights or manifest.weights_sha256}
    (run / "test_openings.jsonl").write_text(json.dumps(opening) + "\n")
    (run / "scores").mkdir(exist_ok=True)
    (run / "scores" / "test.json").write_text(json.dumps(found))
    return manifest


def test_a_run_that_is_not_scored_has_the_card_of_its_training(run: Path) -> None:
    assert card_of(run) == card_of(run / "model.medseg") == read_card(run / "model.medseg")
    assert "8 of at most 8 epochs" in card_of(run)


def test_a_run_that_is_scored_has_the_scores_in_its_card(run: Path) -> None:
    manifest = scored(run, scores())
    assert card_of(run) == model_card(manifest, epochs=8, test=scores())


@pytest.mark.parametrize("what", ["other weights", "other data"])
def test_scores_of_something_else_are_left_out(run: Path, what: str) -> None:
    if what == "other weights":
        scored(run, scores(), weights="0" * 64)
    else:
        scored(run, scores(test_openings=0))
    assert "Not scored on a test part yet" in card_of(run)


@pytest.mark.parametrize(
    "found", [[], {}, scores(summary={"mean": {}, "classes": {}}), scores(confidence="high")]
)
def test_damaged_scores_are_named(run: Path, found: Any) -> None:
    scored(run, found)
    with pytest.raises(DataError, match=r"scores/test\.json: it holds no scores"):
        card_of(run)


def test_evaluating_the_test_part_into_the_run_puts_its_scores_into_the_card(
    photos: Path, run: Path
) -> None:
    done = medseg("evaluate", photos, run, "-o", run / "scores" / "test.json", "--device", "cpu")
    assert done.code == 0, done.err
    mean = json.loads((run / "scores" / "test.json").read_text())["summary"]["mean"]["dice"]
    shown = medseg("info", run, "--card")
    assert shown.code == 0
    assert f"Test dice: {mean['mean']:.4f}, 95 % interval {mean['low']:.4f}" in shown.out
