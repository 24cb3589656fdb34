"""Whole volumes, at their own precision and in one orientation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.volumes import ramp, save_nifti, save_pages
from medseg.data.case import Case, Label, LabelMap
from medseg.data.expand import Subject, expand
from medseg.data.slices import Whole, gather
from medseg.data.source import File
from medseg.data.volumes.read import grid_of, read_image, read_mask
from medseg.errors import DataError, RecipeError

LABELS = LabelMap((Label("background", 0), Label("one", 1), Label("two", 2)))
CORONAL = np.array([[1.0, 0, 0, 0], [0, 0, 4, 0], [0, 1, 0, 0], [0, 0, 0, 1]])


def whole(*images: Path, mask: Path | None = None, **more: object) -> Whole:
    masks = [] if mask is None else [mask]
    cases, problems = expand(Subject("v", images, masks, **more))  # type: ignore[arg-type]
    assert not problems
    (found,) = gather(cases)
    return found


def test_values_keep_their_own_precision(tmp_path: Path) -> None:
    values = ramp((4, 5, 3), np.float32) * 0.001 - 7
    found = read_image(whole(save_nifti(tmp_path / "a.nii", values)).image, 1)
    assert found.dtype == np.float32
    assert np.unique(found).tolist() == np.unique(values).tolist()


def test_slices_rows_and_columns_are_those_shown_in_2d(tmp_path: Path) -> None:
    volume = whole(save_nifti(tmp_path / "a.nii", ramp((4, 5, 3), np.uint8)))
    assert np.array_equal(read_image(volume.image, 1)[0], volume.image.read_image()[..., 0])


def test_spacing_follows_the_axes(tmp_path: Path) -> None:
    affine = np.diag([0.5, 0.7, 2.0, 1.0])
    grid = grid_of(whole(save_nifti(tmp_path / "a.nii", ramp(), affine)).image)
    assert (grid.shape, grid.plane) == ((3, 5, 4), "axial")
    assert grid.spacing == pytest.approx((2.0, 0.7, 0.5))


def test_a_volume_is_turned_into_the_plane_asked_for(tmp_path: Path) -> None:
    image = save_nifti(tmp_path / "a.nii", ramp((4, 6, 3), np.float32), CORONAL)
    mask = save_nifti(tmp_path / "m.nii", ramp((4, 6, 3)) % 3, CORONAL)
    volume = whole(image, mask=mask)
    own, axial = grid_of(volume.image), grid_of(volume.image, "axial")
    assert (own.plane, own.shape) == ("coronal", (3, 6, 4))
    assert (axial.plane, axial.shape) == ("axial", (6, 3, 4))
    turned = read_image(volume.image, 1, "axial")[0]
    classes = read_mask(volume, LABELS, "axial")
    assert turned.shape == classes.shape == (6, 3, 4)
    # Image and mask are turned alike: the mask is a function of the image.
    np.testing.assert_array_equal(classes, turned.astype(int) % 3)


def test_slices_without_a_mask_are_an_error(tmp_path: Path) -> None:
    image = save_nifti(tmp_path / "a.nii", ramp((4, 5, 3)))
    volume = whole(image, mask=save_nifti(tmp_path / "m.nii", ramp((4, 5, 3)) % 3))
    with pytest.raises(DataError, match="only 2 of its 3 slices have a mask"):
        read_mask(replace(volume, cases=volume.cases[:2]), LABELS)


def test_files_are_channels(tmp_path: Path) -> None:
    one = save_nifti(tmp_path / "a.nii", ramp(seed=1))
    two = save_nifti(tmp_path / "b.nii", ramp(seed=2))
    found = read_image(whole(one, two).image, 2)
    assert np.array_equal(found[1], read_image(whole(two).image, 1)[0])


def test_a_fourth_axis_is_channels(tmp_path: Path) -> None:
    values = ramp((4, 5, 3, 2))
    found = read_image(
        whole(save_nifti(tmp_path / "a.nii", values), channels_in_file=True).image, 2
    )
    single = read_image(whole(save_nifti(tmp_path / "b.nii", values[..., 1])).image, 1)
    assert np.array_equal(found[1], single[0])


def test_nan_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    values = np.zeros((4, 5, 3), np.float32)
    values[1, 2, 2] = np.nan
    volume = whole(save_nifti(tmp_path / "a.nii", values))
    with pytest.raises(DataError, match=r"a\.nii: 1 pixels are NaN"):
        read_image(volume.image, 1)


def test_another_number_of_channels_is_an_error(tmp_path: Path) -> None:
    volume = whole(save_nifti(tmp_path / "a.nii", ramp()))
    with pytest.raises(DataError, match="1 channel where 2 are needed"):
        read_image(volume.image, 2)


def test_files_that_say_no_place_have_no_spacing(tmp_path: Path) -> None:
    volume = whole(save_pages(tmp_path / "a.tif", ramp((4, 5, 3), np.uint8)))
    assert grid_of(volume.image).spacing is None


def pictures(root: Path, *numbers: int) -> list[Case]:
    cases = []
    for number in numbers:
        path = root / f"p1_slice_{number}.png"
        Image.fromarray(np.full((4, 6), number, np.uint8)).save(path)
        cases.append(Case(path.stem, File(path), File(path)))
    return cases


def test_pictures_named_as_slices_are_a_volume_in_the_order_of_their_numbers(
    tmp_path: Path,
) -> None:
    (volume,) = gather(pictures(tmp_path, 10, 9, 11), pictures=r"(.+)_slice_(\d+)")
    assert volume.id == "p1"
    assert read_image(volume.image, 1)[0, :, 0, 0].tolist() == [9, 10, 11]
    grid = grid_of(volume.image)
    assert (grid.shape, grid.spacing, grid.plane) == ((3, 4, 6), None, "")


def test_a_gap_between_slices_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no slice between the numbers 1 and 3"):
        gather(pictures(tmp_path, 1, 3), pictures=r"(.+)_slice_(\d+)")


@pytest.mark.parametrize("pattern", ["(", "(.+)_slice", r"(.+)_(slice)_\d+"])
def test_a_pattern_that_finds_no_slices_is_an_error(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(RecipeError, match=r"data\.slices"):
        gather(pictures(tmp_path, 1), pictures=pattern)


def test_a_picture_that_is_no_slice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not match"):
        gather(pictures(tmp_path, 1), pictures=r"(x.+)_slice_(\d+)")


def test_a_picture_is_no_volume(tmp_path: Path) -> None:
    (volume,) = gather(pictures(tmp_path, 1))
    with pytest.raises(DataError, match="is a picture"):
        grid_of(volume.image)


def test_slices_of_one_volume_have_one_size(tmp_path: Path) -> None:
    cases = pictures(tmp_path, 1, 2)
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(cases[1].image.path)
    (volume,) = gather(cases, pictures=r"(.+)_slice_(\d+)")
    with pytest.raises(DataError, match="one size"):
        read_image(volume.image, 1)
