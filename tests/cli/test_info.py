from __future__ import annotations

import json
import shutil
from pathlib import Path

import yaml

from commands import medseg
from data.builders import squares


def test_a_run_says_what_it_is(trained: Path) -> None:
    shown = medseg("info", trained)
    assert (shown.code, shown.err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in shown.out.splitlines())
    assert lines["model"] == str(trained / "model.medseg")
    assert lines["system"] == "med2d-segnet"
    assert lines["labels"] == "background 0, foreground 255"
    assert "name photos" in lines["data"]
    assert "cases train 16, val 2, test 2" in lines["data"]
    assert "warnings none" in lines["data"]
    assert lines["scores"].startswith("val_dice 0.")


def test_json_of_a_model_holds_its_whole_recipe_and_nothing_else_is_printed(trained: Path) -> None:
    shown = medseg("info", trained / "model.medseg", "--json")
    assert (shown.code, shown.err) == (0, "")
    facts = json.loads(shown.out)
    assert facts["recipe"] == yaml.safe_load((trained / "recipe.yaml").read_text())
    assert facts["labels"] == {"background": 0, "foreground": 255}
    assert facts["input"]["image_size"] == 16


def test_a_bundle_carries_no_list_of_the_training_images_to_the_screen(trained: Path) -> None:
    assert "seen" not in json.loads(medseg("info", trained, "--json").out)["data"]


def test_a_dataset_says_how_it_was_understood(photos: Path) -> None:
    shown = medseg("info", photos)
    assert (shown.code, shown.err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in shown.out.splitlines())
    assert lines["because"] == "images/ with images and masks/ with masks"
    assert (lines["cases"], lines["labelled"]) == ("20", "20")
    assert lines["patients"] == "unknown"


def test_json_of_a_dataset_is_all_that_is_printed(tmp_path: Path) -> None:
    data = squares(tmp_path / "größe", 3)
    (data / "labels.json").write_text('{"background": 0, "Gefäß": 255}', encoding="utf-8")
    shown = medseg("info", data, "--json")
    assert (shown.code, shown.err) == (0, "")
    assert json.loads(shown.out)["labels"] == {"background": 0, "Gefäß": 255}


def test_a_manifest_shows_its_patients_parts_and_attributes(tmp_path: Path) -> None:
    data = squares(tmp_path / "data", 4)
    lines = [
        f"images/00{i}.png,masks/00{i}.png,p{i},{'test' if i else 'train'},A" for i in range(4)
    ]
    (data / "cases.csv").write_text("\n".join(["image,mask,patient,split,site", *lines]))
    facts = json.loads(medseg("info", data / "cases.csv", "--json").out)
    assert facts["layout"] == "manifest"
    assert facts["patients"] == 4
    assert facts["split"] == {"train": 1, "test": 3}
    assert facts["attributes"] == ["site"]


def test_a_run_that_has_not_finished_says_so(trained: Path, tmp_path: Path) -> None:
    shutil.copy(trained / "recipe.yaml", tmp_path)
    refused = medseg("info", tmp_path)
    assert refused.code == 2
    assert f"{tmp_path}: this run has not finished" in refused.err
    assert "--resume" in refused.err


def test_what_is_neither_model_nor_data_is_described(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    refused = medseg("info", tmp_path)
    assert refused.code == 2
    assert f"{tmp_path}: is not a dataset that medseg knows: it holds 1 files (.txt)" in refused.err
    assert "images/ and masks/" in refused.err
