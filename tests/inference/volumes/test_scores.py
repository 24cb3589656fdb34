"""A model of volumes is scored volume by volume, in mm."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from commands import medseg
from data.builders import save
from data.volumes import save_nifti
from medseg.scoring import evaluate

from . import builders
from .builders import BINARY, SYSTEM, bundle

AFFINE = np.diag([2.0, 2.0, 5.0, 1.0])


def test_volumes_are_scored_as_wholes_in_mm(tmp_path: Path) -> None:
    """The truth is the model's own mask, moved by a slice of 5 mm."""
    model = builders.model(BINARY, spacing_mm=(5.0, 2.0, 2.0))
    path = bundle(tmp_path / "m.medseg", BINARY, spacing_mm=(5.0, 2.0, 2.0))
    for seed in range(2):
        values = np.random.default_rng(seed).integers(-500, 500, (9, 8, 7)).astype(np.int16)
        image = save_nifti(tmp_path / "data" / "images" / f"p{seed}.nii.gz", values, AFFINE)
        mask = model.predict(image)
        save_nifti(tmp_path / "data" / "masks" / f"p{seed}.nii.gz", mask, AFFINE)
    found = evaluate(
        tmp_path / "data", path, system=SYSTEM, masks=tmp_path / "masks", max_ram="4GB",
        metrics=("dice", "hd95"),
    )  # fmt: skip
    assert [row.case for row in found.rows] == ["p0", "p1"]
    assert all(row.metrics["dice"] == 1 for row in found.rows)
    again = nibabel.load(tmp_path / "masks" / "p0.nii.gz")
    moved = np.roll(np.asarray(again.dataobj), 1, axis=2)
    save_nifti(tmp_path / "data" / "masks" / "p0.nii.gz", moved, AFFINE)
    found = evaluate(tmp_path / "data", path, system=SYSTEM, metrics=("dice", "hd95"))
    (row, _) = found.rows
    assert row.metrics["dice"] < 1
    assert 0 < row.metrics["hd95"] <= 15


def test_heat_maps_of_a_model_of_volumes_are_refused_before_anything_is_predicted(
    tmp_path: Path,
) -> None:
    path = bundle(tmp_path / "m.medseg", BINARY)
    ran = medseg("evaluate", tmp_path, path, "--explain", "2", "-o", tmp_path / "r.html")
    assert ran.code == 2
    assert "--explain: it is for models of pictures" in ran.message


def test_pictures_that_are_slices_are_scored_as_volumes(tmp_path: Path) -> None:
    recipe = {"data": {"slices": r"(.+)_slice_(\d+)"}}
    options = {"spacing_mm": None, "plane": "", "recipe": recipe}
    path = bundle(tmp_path / "m.medseg", BINARY, **options)
    for volume in "ab":
        slices = np.random.default_rng(ord(volume)).integers(0, 255, (4, 9, 8)).astype(np.uint8)
        masks = builders.model(BINARY, **options).predict(slices)
        for index in range(4):
            save(tmp_path / "data" / "images" / f"{volume}_slice_{index}.png", slices[index])
            save(tmp_path / "data" / "masks" / f"{volume}_slice_{index}.png", masks[index])
    found = evaluate(tmp_path / "data", path, system=SYSTEM, metrics=("dice",))
    assert [row.case for row in found.rows] == ["a", "b"]
    assert [row.metrics["dice"] for row in found.rows] == pytest.approx([1, 1])
