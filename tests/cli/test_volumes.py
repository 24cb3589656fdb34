"""What a user meets who has volumes: every bad one is a message."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from commands import left_in, medseg
from data.builders import noise
from data.volumes import dicom_series, ramp, save_nifti


def labelled(root: Path, count: int = 3) -> Path:
    """Volumes with masks in two folders."""
    for index in range(count):
        save_nifti(root / "images" / f"p{index}.nii.gz", ramp((9, 8, 4), seed=index))
        save_nifti(root / "masks" / f"p{index}.nii.gz", ramp((9, 8, 4), np.int16) % 2)
    return root


def test_info_counts_slices_and_volumes_as_patients(tmp_path: Path) -> None:
    shown = medseg("info", labelled(tmp_path)).out
    assert "cases           12" in shown
    assert "patients        3" in shown


def test_check_names_each_kind_of_bad_volume_once(tmp_path: Path) -> None:
    root = labelled(tmp_path, 6)
    save_nifti(root / "images" / "p0.nii.gz", ramp((9, 8, 4, 3)))
    save_nifti(root / "masks" / "p1.nii.gz", np.zeros((9, 8, 5), np.uint8))
    mirrored = np.diag([-2, 2, 5, 1.0])
    save_nifti(root / "masks" / "p2.nii.gz", np.zeros((9, 8, 4), np.uint8), mirrored)
    save_nifti(root / "images" / "p3.nii.gz", ramp((9, 8, 4)), np.diag([5, 2, 2, 1.0]))
    save_nifti(root / "masks" / "p3.nii.gz", np.zeros((9, 8, 4), np.uint8), np.diag([5, 2, 2, 1.0]))
    whole = (root / "images" / "p4.nii.gz").read_bytes()
    (root / "images" / "p4.nii.gz").write_bytes(whole[:-40])
    checked = medseg("data", "check", root, "--json")
    assert checked.code == 1
    for file, found in (
        ("images/p0.nii.gz", "is 4D (9 x 8 x 4 x 3) where 3D is expected"),
        ("masks/p1.nii.gz", "the mask is 9 x 8 x 5 voxels, the image 9 x 8 x 4"),
        ("masks/p2.nii.gz", "the mask is stored in the orientation LAS, the image in RAS"),
        ("images/p4.nii.gz", "cannot be decoded"),
    ):
        assert checked.out.count(found) == 1, found
        assert str(root / file) in checked.out
    assert "is cut into sagittal slices" in checked.out


def test_a_missing_package_is_said_with_the_command_that_installs_it(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", ramp())
    monkeypatch.setitem(sys.modules, "nibabel", None)
    ran = medseg("predict", trained, path, "-o", tmp_path / "out")
    assert ran.code == 1
    assert "needs nibabel. pip install 'medseg[volumes]'" in ran.message


def test_of_several_series_the_good_ones_are_predicted(trained: Path, tmp_path: Path) -> None:
    slices = np.stack([noise(seed, channels=1) for seed in range(5)])
    dicom_series(tmp_path / "in" / "good", slices, series="1")
    dicom_series(tmp_path / "in" / "gap", slices, series="2")
    (tmp_path / "in" / "gap" / "002.dcm").unlink()
    for series in ("3", "4"):
        folder = dicom_series(tmp_path / "in" / "two", slices, series=series)
        for path in sorted(folder.glob("00?.dcm")):
            path.rename(folder / f"{series}{path.name}")
    ran = medseg("predict", trained, tmp_path / "in", "-o", tmp_path / "out")
    assert ran.code == 1
    assert ran.out == f"1 mask written to {tmp_path / 'out'}\n"
    assert left_in(tmp_path / "out") == {"good.nii.gz", "predictions.json"}
    assert "in/two: holds 2 series" in ran.message
    assert "003.dcm: lies 10.00 mm beyond 001.dcm" in ran.message


def test_training_refuses_volumes_whose_masks_do_not_fit(tmp_path: Path) -> None:
    root = labelled(tmp_path / "data")
    save_nifti(root / "masks" / "p1.nii.gz", np.zeros((9, 8, 5), np.uint8))
    ran = medseg("train", root, "-o", tmp_path / "run", "--epochs", "1")
    assert ran.code == 2
    assert "the mask is 9 x 8 x 5 voxels, the image 9 x 8 x 4" in ran.message
