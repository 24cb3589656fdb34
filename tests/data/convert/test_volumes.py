from __future__ import annotations

from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from data.builders import noise, save
from data.volumes import (
    AXIAL,
    dicom_series,
    ramp,
    save_mha,
    save_nifti,
    save_nrrd,
    save_pages,
)
from medseg.data.case import Dataset
from medseg.data.convert import convert_dataset
from medseg.data.expand import Subject, expand
from medseg.data.integrity import check_dataset
from medseg.data.io.volume import read_header
from medseg.data.labels import read_classes
from medseg.data.layouts import open_dataset
from medseg.data.slices import volume_of
from medseg.data.survey import Survey

WHOLE = ("nnunet", "manifest", "datalist")


def surveyed(root: Path, *subjects: Subject) -> Survey:
    """Of the subjects, or of the dataset at ``root``."""
    if not subjects:
        survey = check_dataset(open_dataset(root), workers=1)
    else:
        found = [expand(subject) for subject in subjects]
        assert not any(problems for _, problems in found)
        cases = sorted((case for cases, _ in found for case in cases), key=lambda case: case.id)
        survey = check_dataset(Dataset(root, "test", "", tuple(cases)), workers=1)
    assert survey.errors == ()
    return survey


def same_volumes(before: Survey, after: Survey, *, placed: bool = True) -> None:
    """Both have the same slices with the same pixels, classes, patients and affines."""
    ours = {case.id: case for case in before.dataset.cases}
    theirs = {case.id: case for case in after.dataset.cases}
    assert ours.keys() == theirs.keys()
    assert before.labels is not None
    assert after.labels is not None
    for case_id, case in ours.items():
        other = theirs[case_id]
        assert np.array_equal(case.image.read_image(), other.image.read_image())
        assert case.mask is not None
        assert other.mask is not None
        assert np.array_equal(
            read_classes(case.mask, before.labels, field_of_view=case.field_of_view),
            read_classes(other.mask, after.labels, field_of_view=other.field_of_view),
        )
        assert case.patient == other.patient
        if placed:
            assert np.allclose(affine(case.image), affine(other.image), atol=1e-5)
            assert np.allclose(affine(case.image), affine(other.mask), atol=1e-5)


def affine(source: Any) -> NDArray[np.float64]:
    files = volume_of(source)
    assert files is not None
    found = read_header(files).affine
    assert found is not None
    return found


def mask_of(values: NDArray[Any]) -> NDArray[np.uint8]:
    """A mask on the grid of an image, 0 and 3 in a random pattern."""
    return np.where(np.random.default_rng(7).random(values.shape[:3]) < 0.5, 3, 0).astype(np.uint8)


@pytest.mark.parametrize("target", WHOLE)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    shape=st.tuples(*[st.integers(2, 5)] * 3),
    turn=st.sampled_from(list(product(permutations(range(3)), product((1, -1), repeat=3)))),
    spacing=st.tuples(*[st.sampled_from((0.5, 1.0, 4.0))] * 3),
    dtype=st.sampled_from((np.uint8, np.int16, np.float32)),
)
def test_a_nifti_comes_back_with_its_pixels_and_its_affine(
    tmp_path_factory: pytest.TempPathFactory,
    target: str,
    shape: tuple[int, int, int],
    turn: Any,
    spacing: tuple[float, float, float],
    dtype: Any,
) -> None:
    folder = tmp_path_factory.mktemp("volumes")
    axes, signs = turn
    place = np.eye(4)
    place[:3, :3] = (np.eye(3)[:, list(axes)] * signs) * spacing
    place[:3, 3] = (-3, 10.5, 7)
    subjects = []
    for number in (1, 2):
        values = ramp(shape, dtype, seed=number)
        image = save_nifti(folder / "in" / f"{number}.nii.gz", values, place)
        mask = save_nifti(folder / "in" / f"{number}_m.nii", mask_of(values), place)
        subjects.append(Subject(f"scan_{number}", [image], [mask], split=None))
    before = surveyed(folder / "in", *subjects)
    convert_dataset(before, target, folder / "out")
    after = surveyed(folder / "out")
    same_volumes(before, after)
    convert_dataset(after, "manifest", folder / "back")
    same_volumes(before, surveyed(folder / "back"))


def nrrd(folder: Path, values: NDArray[np.int16]) -> list[Path]:
    return [save_nrrd(folder / "a.nrrd", values)]


def mha(folder: Path, values: NDArray[np.int16]) -> list[Path]:
    folder.mkdir()
    return [save_mha(folder / "a.mhd", values)]


def dicom(folder: Path, values: NDArray[np.int16]) -> list[Path]:
    slices = values.transpose(2, 1, 0)
    return [dicom_series(folder / "series", slices, origin=(0, 0, 0))]


def windowed(folder: Path, values: NDArray[np.int16]) -> list[Path]:
    slices = values.transpose(2, 1, 0)
    window = {"WindowCenter": 30, "WindowWidth": 20, "RescaleSlope": 2, "RescaleIntercept": -5}
    return [dicom_series(folder / "series", slices, origin=(0, 0, 0), **window)]


def two_channels(folder: Path, values: NDArray[np.int16]) -> list[Path]:
    return [save_nifti(folder / "t1.nii.gz", values), save_nrrd(folder / "t2.nrrd", values[::-1])]


@pytest.mark.parametrize("target", WHOLE)
@pytest.mark.parametrize("make", [nrrd, mha, dicom, windowed, two_channels])
def test_other_formats_become_nifti_at_the_same_place(
    tmp_path: Path, target: str, make: Callable[[Path, NDArray[np.int16]], list[Path]]
) -> None:
    values = ramp()
    images = make(tmp_path / "in", values)
    cases, _ = expand(Subject("a", images))
    place = affine(cases[0].image)
    mask = save_nifti(tmp_path / "mask.nii.gz", mask_of(values), place)
    before = surveyed(tmp_path / "in", Subject("a", images, [mask]))
    written = convert_dataset(before, target, tmp_path / "out")
    same_volumes(before, surveyed(tmp_path / "out"))
    assert any("DICOM window" in note for note in written.notes) == (make is windowed)


def test_intensities_are_kept_where_no_window_hides_them(tmp_path: Path) -> None:
    values = ramp() * 40 - 1000
    image = save_nrrd(tmp_path / "in" / "a.nrrd", values)
    mask = save_nifti(tmp_path / "in" / "m.nii.gz", mask_of(values))
    convert_dataset(
        surveyed(tmp_path / "in", Subject("a", [image], [mask])), "nnunet", tmp_path / "out"
    )
    written = nibabel.load(tmp_path / "out" / "imagesTr" / "a_0000.nii.gz")
    assert np.array_equal(np.asarray(written.dataobj), values)
    assert np.allclose(written.affine, AXIAL)


@pytest.mark.parametrize("target", WHOLE)
def test_the_channels_of_a_4d_file_become_files(tmp_path: Path, target: str) -> None:
    values = ramp((4, 5, 3, 2))
    image = save_nifti(tmp_path / "in" / "a.nii.gz", values)
    mask = save_nifti(tmp_path / "in" / "m.nii.gz", mask_of(values))
    before = surveyed(tmp_path / "in", Subject("a", [image], [mask], channels_in_file=True))
    convert_dataset(before, target, tmp_path / "out")
    same_volumes(before, surveyed(tmp_path / "out"))


@pytest.mark.parametrize("target", WHOLE)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_of_a_volume_are_kept(tmp_path: Path, target: str, dtype: Any) -> None:
    pages = ramp((3, 6, 7, 3), dtype)
    image = tmp_path / "a.tif"
    tifffile.imwrite(image, pages, photometric="rgb")
    mask = save_pages(tmp_path / "m.tif", mask_of(pages))
    before = surveyed(tmp_path / "in", Subject("a", [image], [mask]))
    assert before.channels == 3
    convert_dataset(before, target, tmp_path / "out")
    once = surveyed(tmp_path / "out")
    same_volumes(before, once, placed=False)
    convert_dataset(once, "nnunet", tmp_path / "again")
    same_volumes(before, surveyed(tmp_path / "again"), placed=False)


@pytest.mark.parametrize("target", WHOLE)
def test_pages_of_a_tiff_get_a_spacing_that_shows_them_as_they_are(
    tmp_path: Path, target: str
) -> None:
    pages = np.stack([noise(seed, channels=1) for seed in range(3)])
    image = save_pages(tmp_path / "in" / "a.tif", pages)
    mask = save_pages(tmp_path / "in" / "m.tif", mask_of(pages))
    before = surveyed(tmp_path / "in", Subject("a", [image], [mask]))
    written = convert_dataset(before, target, tmp_path / "out")
    same_volumes(before, surveyed(tmp_path / "out"), placed=False)
    assert written.notes == ("volumes without spacing and orientation got a spacing of 1 mm",)


@pytest.mark.parametrize("target", WHOLE)
def test_the_field_of_view_of_a_volume_is_kept(tmp_path: Path, target: str) -> None:
    values = ramp()
    view = np.zeros(values.shape, np.uint8)
    view[1:] = 255
    image = save_nifti(tmp_path / "in" / "a.nii.gz", values)
    mask = save_nifti(tmp_path / "in" / "m.nii.gz", mask_of(values))
    fov = save_nifti(tmp_path / "in" / "v.nii.gz", view)
    subject = Subject("a", [image], [mask], field_of_view=fov)
    before = surveyed(tmp_path / "in", subject)
    convert_dataset(before, target, tmp_path / "out")
    same_volumes(before, surveyed(tmp_path / "out"))


@pytest.mark.parametrize("target", ["images-masks", "coco"])
def test_layouts_without_volumes_get_slices_and_say_what_is_lost(
    tmp_path: Path, target: str
) -> None:
    values = ramp()
    image = save_nifti(tmp_path / "in" / "a.nii.gz", values)
    mask = save_nifti(tmp_path / "in" / "m.nii.gz", mask_of(values))
    before = surveyed(tmp_path / "in", Subject("a", [image], [mask]))
    written = convert_dataset(before, target, tmp_path / "out")
    same_volumes(before, surveyed(tmp_path / "out"), placed=False)
    assert written.notes == ("1 volume written slice by slice: spacing and orientation are lost",)


def test_nnunet_gets_pictures_where_there_are_volumes_and_pictures(tmp_path: Path) -> None:
    values = ramp((16, 20, 3))
    image = save_nifti(tmp_path / "in" / "a.nii.gz", values)
    mask = save_nifti(tmp_path / "in" / "m.nii.gz", mask_of(values))
    picture = save(tmp_path / "in" / "b.png", noise(channels=1))
    label = save(tmp_path / "in" / "bm.png", mask_of(noise(channels=1)[..., None])[..., 0])
    before = surveyed(
        tmp_path / "in", Subject("a", [image], [mask]), Subject("b", [picture], [label])
    )
    written = convert_dataset(before, "nnunet", tmp_path / "out")
    after = surveyed(tmp_path / "out")
    same_volumes(before, after, placed=False)
    assert "nnU-Net takes files of one kind only" in written.notes[0]
