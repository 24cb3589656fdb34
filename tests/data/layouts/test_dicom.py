from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from medseg.data.io.volume import read_header, volume_files
from medseg.data.layouts import dicom, open_dataset
from medseg.errors import DataError

from ..builders import dataset, noise, save
from ..volumes import dicom_series, dicom_slice, ramp, save_nifti


def study(root: Path) -> Path:
    """Two series in folders of their own."""
    dicom_series(root / "ann" / "ct", ramp((3, 4, 5), np.uint8), series="1", PatientID="Ann")
    dicom_series(root / "bob", ramp((2, 4, 5), np.uint8), series="2", PatientID="Bob")
    return root


def test_each_folder_is_a_series(tmp_path: Path) -> None:
    found = open_dataset(study(tmp_path))
    assert (found.layout, found.reason) == ("dicom", "2 folders of DICOM files")
    assert [case.id for case in found.cases] == [
        "ann/ct/slice_000", "ann/ct/slice_001", "ann/ct/slice_002",
        "bob/slice_000", "bob/slice_001",
    ]  # fmt: skip
    assert {case.patient for case in found.cases} == {"Ann", "Bob"}
    assert not any(case.mask for case in found.cases)


def test_a_folder_that_is_a_series_has_its_name(tmp_path: Path) -> None:
    found = open_dataset(dicom_series(tmp_path / "ct 1", ramp((2, 4, 5), np.uint8)))
    assert [case.id for case in found.cases] == ["ct 1/slice_000", "ct 1/slice_001"]


def test_files_without_suffix_are_known_by_their_content(tmp_path: Path) -> None:
    folder = dicom_series(tmp_path / "s", ramp((2, 4, 5), np.uint8))
    for path in sorted(folder.iterdir()):
        path.rename(path.with_suffix(""))
    (folder / "readme.txt").write_text("notes")
    assert len(open_dataset(folder).cases) == 2


def test_radiographs_in_one_folder_are_a_case_each(tmp_path: Path) -> None:
    for number in range(3):
        dicom_slice(tmp_path / f"r{number}.dcm", noise(number, channels=1), series=f"1.{number}")
    assert [case.id for case in open_dataset(tmp_path).cases] == ["r0", "r1", "r2"]


def test_a_folder_of_two_series_is_a_case_that_says_so(tmp_path: Path) -> None:
    study(tmp_path)
    for path in (tmp_path / "ann" / "ct").iterdir():
        path.rename(tmp_path / "bob" / f"ann{path.name}")
    (case,) = open_dataset(tmp_path).cases
    with pytest.raises(DataError, match="holds 2 series"):
        case.image.read_image()


def test_other_images_leave_the_folder_to_other_layouts(tmp_path: Path) -> None:
    assert dicom.recognise(dataset(tmp_path / "photos")) is None
    save(study(tmp_path / "study") / "ann" / "photo.png", noise())
    assert dicom.recognise(tmp_path / "study") is None


def test_a_manifest_pairs_a_series_with_its_mask(tmp_path: Path) -> None:
    folder = dicom_series(tmp_path / "ct", ramp((3, 4, 5), np.uint8), PatientID="Ann")
    affine = read_header(volume_files(folder)).affine
    assert affine is not None
    save_nifti(tmp_path / "m.nii.gz", np.ones((5, 4, 3), np.uint8), affine)
    (tmp_path / "manifest.csv").write_text("image,mask\nct,m.nii.gz\n")
    found = open_dataset(tmp_path)
    assert found.problems == ()
    assert [(case.id, case.patient) for case in found.cases] == [
        (f"ct/slice_00{index}", "Ann") for index in range(3)
    ]
    assert all(case.mask for case in found.cases)


def test_a_folder_of_other_things_in_a_manifest_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "ct").mkdir()
    (tmp_path / "manifest.csv").write_text("image,mask\nct,\n")
    (case,) = open_dataset(tmp_path).cases
    with pytest.raises(DataError, match="is a folder"):
        case.image.read_image()


def test_strange_input_is_not_recognised(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.dcm").write_bytes(b"no dicom")
    for path in (tmp_path, tmp_path / "empty", tmp_path / "a.dcm", tmp_path / "missing"):
        assert dicom.recognise(path) is None
        with pytest.raises(DataError, match="holds no DICOM files"):
            dicom.read(path)


def test_damaged_files_of_a_series_are_a_message(tmp_path: Path) -> None:
    folder = study(tmp_path) / "bob"
    whole = (folder / "000.dcm").read_bytes()
    for cut in range(140, len(whole), 37):
        (folder / "000.dcm").write_bytes(whole[:cut])
        for case in dicom.read(tmp_path).cases:
            with contextlib.suppress(DataError):
                case.image.read_image()
