"""Every model in the package: its file, its licence, and its scores on images it has not seen.

Each test asks all models that ``zoo.SHIPPED`` lists, and the first that the list is right.
"""

from __future__ import annotations

import json
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_safetensors

import medseg
from medseg import zoo
from medseg.inference.bundle import read_bundle, read_card, read_golden, read_manifest
from medseg.zoo.entries import ENTRIES

ROOT = Path(__file__).parents[2]
CASES = Path(__file__).parent / "cases"
MOST_BYTES = 5_000_000

# Of a case's Dice: arithmetic differs in the last digits from machine to machine.
TOLERANCE = 0.005


def file(name: str) -> Path:
    return zoo.FOLDER / f"{name}.medseg"


def test_the_package_holds_the_models_it_lists_and_no_others() -> None:
    assert {path.name for path in zoo.FOLDER.glob("*")} == {
        f"{name}.medseg" for name in zoo.SHIPPED
    }


def test_the_wheel_takes_every_model_along() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["medseg"]
    for name in zoo.SHIPPED:
        place = file(name).relative_to(Path(medseg.__file__).parent).as_posix()
        assert any(fnmatch(place, pattern) for pattern in patterns), place


def test_every_model_opens_by_its_name_and_gives_masks_of_its_classes() -> None:
    for name in zoo.SHIPPED:
        model = medseg.load(name, device="cpu")
        channels = model.manifest.preprocessing.channels
        image = np.random.default_rng(0).integers(0, 256, (61, 47, channels), dtype=np.uint8)
        mask = model.predict(image)
        assert mask.shape == (61, 47), name
        assert set(np.unique(mask)) <= {label.value for label in model.labels.labels}, name


def test_every_model_has_the_licence_and_the_attribution_of_its_entry() -> None:
    for name in zoo.SHIPPED:
        manifest, entry = read_manifest(file(name)), ENTRIES[name]
        assert (manifest.title, manifest.licence) == (entry.title, entry.licence)
        assert manifest.data["attribution"] == entry.attribution
        card = read_card(file(name))
        assert f"Licence of the model: {entry.licence}" in card
        assert "Attribution: " in card


def test_every_model_is_small_and_its_kernels_have_16_bits() -> None:
    for name in zoo.SHIPPED:
        assert file(name).stat().st_size <= MOST_BYTES, name
        for key, tensor in load_safetensors(read_bundle(file(name)).weights).items():
            assert tensor.dtype == torch.float16 or tensor.ndim <= 1, (name, key)


def test_every_model_gives_the_masks_of_its_golden_cases() -> None:
    for name in zoo.SHIPPED:
        model, golden = medseg.load(name, device="cpu"), read_golden(file(name))
        assert bool(golden) == ENTRIES[name].with_images, name
        for case in golden:
            size = (case.image.shape[0], case.image.shape[1])
            (found,) = model.infer([model.prepare(case.image)], [size])
            assert np.array_equal(found.classes, case.classes), name


def test_every_model_gives_its_masks_without_pytorch() -> None:
    for name in zoo.SHIPPED:
        model = medseg.load(name, engine="onnx")
        for case in read_golden(file(name)):
            size = (case.image.shape[0], case.image.shape[1])
            (found,) = model.infer([model.prepare(case.image)], [size])
            assert np.array_equal(found.classes, case.classes), name
        channels = model.manifest.preprocessing.channels
        image = np.random.default_rng(0).integers(0, 256, (61, 47, channels), dtype=np.uint8)
        expected = medseg.load(name, device="cpu").predict(image)
        assert np.array_equal(model.predict(image), expected), name


def test_every_model_says_how_it_scored_on_its_test_part() -> None:
    for name in zoo.SHIPPED:
        scores = read_manifest(file(name)).scores
        assert scores["test_dice_low"] <= scores["test_dice"] <= scores["test_dice_high"], name
        assert scores["test_cases"] >= 15, name
        assert f"Test dice: {scores['test_dice']:.4f}" in read_card(file(name))


def test_every_model_has_its_scores_on_images_it_has_not_seen() -> None:
    for name in zoo.SHIPPED:
        folder = CASES / name
        if not ENTRIES[name].with_images:
            assert not folder.exists(), f"{name}: its images may not be passed on"
            continue
        expected = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
        assert expected["weights_sha256"] == read_manifest(file(name)).weights_sha256, name
        assert len(expected["dice"]) >= 3, name
        assert ENTRIES[name].licence.split("-")[0] in (folder / "LICENCE.txt").read_text()
        scored = medseg.evaluate(folder, name, metrics=("dice",), device="cpu")
        assert scored.note == "", name
        assert scored.case_means("dice") == pytest.approx(expected["dice"], abs=TOLERANCE), name


def test_no_test_cases_are_left_of_a_model_that_is_gone() -> None:
    folders = {path.name for path in CASES.iterdir()} if CASES.is_dir() else set()
    assert folders <= set(zoo.SHIPPED)
