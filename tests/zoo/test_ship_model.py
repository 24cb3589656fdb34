"""tools/ship_model.py: what it writes, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load, save

import medseg
from commands import left_in
from medseg.data.layouts import open_dataset
from medseg.engine.openings import read_openings
from medseg.errors import MedsegError, ModelError
from medseg.inference.bundle import (
    read_bundle,
    read_card,
    read_golden,
    read_manifest,
    write_bundle,
)
from medseg.report.card import card_of

from .conftest import Shipped


def test_kernels_have_16_bits_and_everything_else_keeps_its_own(
    shipped: Shipped, trained: Path
) -> None:
    before = load(read_bundle(trained / "model.medseg").weights)
    after = load(read_bundle(shipped.model).weights)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        if tensor.ndim > 1:
            assert torch.equal(after[name], tensor.half()), name
        else:
            assert torch.equal(after[name], tensor), name
            assert after[name].dtype == tensor.dtype


def test_a_kernel_that_16_bits_do_not_hold_is_refused(tool: ModuleType) -> None:
    with pytest.raises(ModelError, match=r"stem.weight.*65,504"):
        tool.rounded(save({"stem.weight": torch.full((1, 1), 70_000.0)}))


def test_golden_cases_are_small_and_have_the_masks_of_the_rounded_model(
    shipped: Shipped, trained: Path
) -> None:
    golden = read_golden(shipped.model)
    assert 1 <= len(golden) <= 3
    model = medseg.load(shipped.model, device="cpu")
    for case in golden:
        assert np.array_equal(model.predict(case.image) > 0, case.classes > 0)
    stored = read_golden(trained / "model.medseg")
    assert all(any(np.array_equal(a.image, b.image) for b in stored) for a in golden)


def test_golden_images_are_made_smaller_with_their_shape(tool: ModuleType) -> None:
    image = np.zeros((384, 192, 3), np.uint8)
    image[:192] = 200
    small = tool._smaller(image)
    assert small.shape == (224, 112, 3)
    assert small[:100].min() == 200
    assert small[-100:].max() == 0


def test_images_of_which_rounding_decides_a_pixel_are_passed_over(
    tool: ModuleType, shipped: Shipped
) -> None:
    model = medseg.load(shipped.model, device="cpu")
    image = read_golden(shipped.model)[0].image
    shares = model.predict_probabilities(image)
    exact = float(shares.ravel()[shares.size // 2])
    model.manifest = model.manifest.model_copy(update={"threshold": exact})
    with pytest.raises(ModelError, match=r"predict.golden"):
        tool.golden_cases(model, read_golden(shipped.model)[:1])


def test_the_manifest_says_what_the_entry_says(shipped: Shipped, trained: Path) -> None:
    manifest = read_manifest(shipped.model)
    assert manifest.title == "Cell nuclei in microscopy"
    assert manifest.licence == "CC0-1.0"
    assert manifest.data["licence"] == "CC0"
    assert "Caicedo" in manifest.data["attribution"]
    assert [label.name for label in manifest.labels] == ["background", "nucleus"]
    before = read_manifest(trained / "model.medseg")
    assert manifest.temperature == before.temperature
    assert manifest.data["seen"] == before.data["seen"]
    assert manifest.scores["val_ece"] == before.scores["val_ece"]


def test_no_path_of_where_it_was_trained_is_in_the_file(shipped: Shipped, photos: Path) -> None:
    content = shipped.model.read_bytes()
    for folder in (shipped.run, photos):
        assert str(folder).encode() not in content


def test_where_the_model_that_training_started_from_lay_is_not_told(
    tool: ModuleType, shipped: Shipped, photos: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(shipped.run, tmp_path / "run"))
    bundle = read_bundle(run / "model.medseg")
    manifest = bundle.manifest.model_copy(
        update={
            "recipe": {**bundle.manifest.recipe, "init": "/secret/start.medseg"},
            "data": {**bundle.manifest.data, "init": {"model": "/secret/start.medseg"}},
        }
    )
    write_bundle(run / "model.medseg", manifest, bundle.weights)
    tool.ship(run, "hippocampus", photos, models=tmp_path, cases=tmp_path / "cases")
    told = read_manifest(tmp_path / "hippocampus.medseg")
    assert told.recipe["init"] == told.data["init"]["model"] == "start.medseg"
    assert b"secret" not in (tmp_path / "hippocampus.medseg").read_bytes()


def test_the_scores_are_those_of_the_test_part_by_the_rounded_weights(
    shipped: Shipped, photos: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(shipped.run, tmp_path / "run"))
    shutil.copyfile(shipped.model, run / "model.medseg")
    scored = medseg.evaluate(photos, run, part="test", device="cpu")
    dice, scores = scored.overall["dice"], read_manifest(shipped.model).scores
    assert (scores["test_dice"], scores["test_dice_low"]) == (dice.mean, dice.low)
    assert scores["test_cases"] == 2
    assert f"Test dice: {dice.mean:.4f}, 95 % interval {dice.low:.4f}" in read_card(shipped.model)


def test_the_opening_of_the_test_part_is_logged_in_the_run(shipped: Shipped) -> None:
    (opening,) = read_openings(shipped.run)
    assert opening["cases"] == 2
    assert opening["weights_sha256"] == read_manifest(shipped.run / "model.medseg").weights_sha256
    assert "opened 1 time by then" in card_of(shipped.model)


def test_the_card_has_licence_and_attribution(shipped: Shipped) -> None:
    card = read_card(shipped.model)
    assert card.startswith("# Cell nuclei in microscopy\n")
    for text in ("Licence of the model: CC0-1.0", "Licence of the data: CC0\n", "Caicedo"):
        assert text in card
    assert "not stated" not in card


def test_test_cases_are_a_dataset_with_licence_and_scores(shipped: Shipped, photos: Path) -> None:
    assert {"LICENCE.txt", "labels.json", "scores.json"} <= left_in(shipped.cases)
    cases = open_dataset(shipped.cases).cases
    expected = json.loads((shipped.cases / "scores.json").read_text())
    assert {case.id for case in cases} == expected["dice"].keys()
    split = (shipped.run / "split.csv").read_text()
    for case in cases:
        assert f"{case.id},test" in split
        original = photos / "images" / case.image.path.name
        assert case.image.path.read_bytes() == original.read_bytes()
        mask = Image.open(photos / "masks" / f"{case.id}.png")
        assert np.array_equal(np.asarray(mask), np.asarray(Image.open(case.mask.path)))  # type: ignore[union-attr]
    assert "CC0" in (shipped.cases / "LICENCE.txt").read_text()
    scored = medseg.evaluate(shipped.cases, shipped.model, device="cpu")
    assert scored.case_means("dice") == expected["dice"]
    assert scored.note == ""


def test_no_image_is_passed_on_where_the_licence_asks_for_itself(
    tool: ModuleType, shipped: Shipped, photos: Path, tmp_path: Path
) -> None:
    tool.ship(shipped.run, "hippocampus", photos, models=tmp_path, cases=tmp_path / "cases")
    assert left_in(tmp_path) == {"hippocampus.medseg"}
    assert read_golden(tmp_path / "hippocampus.medseg") == ()
    assert read_manifest(tmp_path / "hippocampus.medseg").licence == "CC-BY-SA-4.0"


def test_a_file_that_is_too_large_is_refused(
    tool: ModuleType,
    shipped: Shipped,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tool, "MOST_BYTES", 1000)
    with pytest.raises(ModelError, match="1,000 may be shipped"):
        tool.ship(shipped.run, "nuclei", photos, models=tmp_path / "m", cases=tmp_path / "c")
    assert left_in(tmp_path) == set()


def test_a_run_that_leaks_is_refused(
    tool: ModuleType, shipped: Shipped, photos: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(shipped.run, tmp_path / "run"))
    bundle = read_bundle(run / "model.medseg")
    images = json.loads((run / "data.json").read_text())["images"].values()
    data = {**bundle.manifest.data, "seen": sorted(images)}
    manifest = bundle.manifest.model_copy(update={"data": data})
    write_bundle(run / "model.medseg", manifest, bundle.weights, golden=read_golden(shipped.model))
    with pytest.raises(MedsegError, match="Leak: 2 of these 2 images"):
        tool.ship(run, "nuclei", photos, models=tmp_path / "m", cases=tmp_path / "c")


def test_what_is_no_run_or_has_no_entry_is_refused(
    tool: ModuleType, shipped: Shipped, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="no finished run"):
        tool.ship(tmp_path, "nuclei", photos)
    with pytest.raises(ModelError, match="Did you mean 'nuclei'"):
        tool.ship(shipped.run, "nucleus", photos)
