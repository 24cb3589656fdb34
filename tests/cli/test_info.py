from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx.helper
import pytest
import yaml

from commands import medseg
from data.builders import squares
from inference.builders import manifest_and_weights
from medseg.inference.bundle import read_card, read_manifest, write_bundle
from medseg.inference.runtime import METADATA


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
    assert 0.05 <= float(lines["temperature"]) <= 20
    assert lines["threshold"] == "0.5000"
    assert lines["postprocessing"] == "keep_largest False, min_pixels 0"
    assert (lines["golden_cases"], lines["graph"], lines["licence"]) == ("2", "none", "not stated")


def test_json_of_a_model_holds_its_whole_recipe_and_nothing_else_is_printed(trained: Path) -> None:
    shown = medseg("info", trained / "model.medseg", "--json")
    assert (shown.code, shown.err) == (0, "")
    facts = json.loads(shown.out)
    assert facts["recipe"] == yaml.safe_load((trained / "recipe.yaml").read_text())
    assert facts["labels"] == {"background": 0, "foreground": 255}
    assert facts["input"]["image_size"] == 16


def exported(trained: Path, folder: Path) -> Path:
    """What an exported file says of itself, around a graph that computes nothing."""
    manifest = read_manifest(trained / "model.medseg")
    graph = onnx.helper.make_model(onnx.helper.make_graph([], "nothing", [], []))
    entry = graph.metadata_props.add()
    entry.key, entry.value = METADATA, manifest.model_dump_json()
    path = folder / "model.onnx"
    path.write_bytes(graph.SerializeToString())
    return path


def test_an_exported_graph_says_what_its_bundle_says(trained: Path, tmp_path: Path) -> None:
    path = exported(trained, tmp_path)
    of_graph = json.loads(medseg("info", path, "--json").out)
    of_bundle = json.loads(medseg("info", trained / "model.medseg", "--json").out)
    del of_bundle["test_openings"]
    assert of_graph.pop("graph") == "yes (ONNX)"
    assert of_bundle.pop("graph") == "none"
    assert (of_graph.pop("model"), of_bundle.pop("model")) == (
        str(path), str(trained / "model.medseg")
    )  # fmt: skip
    assert of_graph == of_bundle
    assert medseg("info", path, "--card").out.startswith("# med2d-segnet trained on photos\n")


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x08\x07"])
def test_a_graph_that_medseg_did_not_export_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    refused = medseg("info", path)
    assert refused.code == 2
    assert f"error: {path}: " in refused.err


def test_a_graph_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refused = medseg("info", tmp_path / "none.onnx")
    assert refused.code == 2
    assert "there is no such file" in refused.err


def test_the_card_of_a_bundle_is_printed_and_nothing_else(trained: Path) -> None:
    shown = medseg("info", trained / "model.medseg", "--card")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out == read_card(trained / "model.medseg")


@pytest.mark.parametrize(("options", "found"), [(["--json"], "Markdown, not JSON"), ([], "")])
def test_a_card_is_of_a_model_and_no_json(photos: Path, options: list[str], found: str) -> None:
    refused = medseg("info", photos, "--card", *options)
    assert refused.code == 2
    assert (found or "only a model has a card") in refused.err


def test_what_a_terminal_would_act_on_is_not_printed(tmp_path: Path) -> None:
    manifest, weights = manifest_and_weights({"background": 0, "\x1b[2J": 1})
    odd = manifest.model_copy(update={"licence": "\x1b]0;title\x07"})
    write_bundle(tmp_path / "m.medseg", odd, weights, card="# \x1b[31mred\n\tok")
    for options in ([], ["--card"]):
        shown = medseg("info", tmp_path / "m.medseg", *options)
        assert shown.code == 0
        assert all(line.isprintable() for line in shown.out.splitlines())


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
