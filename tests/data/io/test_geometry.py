from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.orientations import aff2axcodes
from numpy.typing import NDArray

from medseg.data.io.geometry import (
    AS_STORED,
    Header,
    difference,
    make_header,
    orientation,
    slicing,
)
from medseg.errors import DataError

from ..volumes import AXIAL, ramp

ORIENTATIONS = [
    (axes, signs) for axes in permutations(range(3)) for signs in product((1, -1), repeat=3)
]


def turned(
    values: NDArray[np.int16],
    affine: NDArray[np.float64],
    axes: tuple[int, ...],
    signs: tuple[int, ...],
) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """The same voxels at the same places, stored along other axes."""
    image = nibabel.Nifti1Image(values, affine)
    turn = [(axis, sign) for axis, sign in zip(axes, signs, strict=True)]
    moved = image.as_reoriented(np.array(turn, float))
    return np.asarray(moved.dataobj), moved.affine


def header_of(shape: tuple[int, ...], affine: NDArray[np.float64] | None) -> Header:
    return make_header((Path("a.nii"),), shape, affine)


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_slices_show_the_body_the_same_way_however_it_is_stored(
    axes: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    values = ramp()
    stored, affine = turned(values, AXIAL, axes, signs)
    slices = header_of(stored.shape, affine).slicing.cut(stored)
    # In RAS+, rows from the front and columns from the patient's right.
    assert np.array_equal(slices, values[::-1, ::-1, :].transpose(2, 1, 0))


@given(
    st.sampled_from(ORIENTATIONS),
    st.tuples(*[st.integers(1, 5)] * 3),
    st.tuples(*[st.sampled_from([0.5, 0.7, 1, 3, 7.25])] * 3),
    st.tuples(*[st.floats(-0.3, 0.3)] * 3),
)
def test_nibabel_agrees_on_the_orientation_and_slices_can_be_put_back(
    turn: tuple[tuple[int, ...], tuple[int, ...]],
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    oblique: tuple[float, float, float],
) -> None:
    (a, b, c), (axes, signs) = oblique, turn
    rotation = (
        np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        @ np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        @ np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    )
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing
    affine[:3, 3] = (-12.5, 3, 40)
    stored, affine = turned(ramp(shape), affine, axes, signs)
    assert orientation(affine) == "".join(aff2axcodes(affine))
    cut = slicing(stored.shape, affine)
    assert np.array_equal(cut.join(cut.cut(stored)), stored)
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(stored, affine))
    upright = np.asarray(canonical.dataobj)
    views = {
        "axial": upright[::-1, ::-1, :].transpose(2, 1, 0),
        "coronal": upright[::-1, :, ::-1].transpose(1, 2, 0),
        "sagittal": upright[:, ::-1, ::-1].transpose(0, 2, 1),
    }
    assert np.array_equal(cut.cut(stored), views[cut.plane])


@pytest.mark.parametrize(
    ("shape", "spacing", "plane"),
    [
        ((9, 9, 9), (1, 1, 1), "axial"),
        ((9, 9, 9), (1, 1.4, 1), "axial"),
        ((9, 9, 9), (1, 1.6, 1), "coronal"),
        ((9, 9, 9), (3, 1, 1), "sagittal"),
        ((9, 9, 9), (3, 3, 1), "axial"),
        ((9, 1, 9), (1, 1, 5), "coronal"),
        ((1, 9, 9), (1, 1, 1), "sagittal"),
    ],
)
def test_volumes_are_cut_as_they_were_acquired(
    shape: tuple[int, ...], spacing: tuple[float, ...], plane: str
) -> None:
    assert header_of(shape, np.diag([*spacing, 1.0])).slicing.plane == plane


def test_without_a_place_the_last_axis_counts_the_slices() -> None:
    assert header_of((4, 5, 6), None).slicing == AS_STORED
    assert header_of((4, 5, 6), None).num_slices == 6


def test_one_grid_is_no_difference_up_to_a_thousandth_of_the_spacing() -> None:
    moved = AXIAL.copy()
    moved[0, 3] += 0.001
    assert difference(header_of((4, 5, 3), AXIAL), header_of((4, 5, 3), moved)) is None


@pytest.mark.parametrize(
    ("shape", "affine", "kind", "found"),
    [
        ((4, 5, 2), AXIAL, "size-mismatch", "the mask is 4 x 5 x 2 voxels, the image 4 x 5 x 3"),
        ((4, 5, 3), None, "geometry-mismatch", "the image says where its voxels lie and the mask"),
        (
            (4, 5, 3),
            np.diag([-2, -2, 5, 1.0]),
            "geometry-mismatch",
            "orientation LPS, the image",
        ),
        ((4, 5, 3), np.diag([2, 2, 5.5, 1.0]), "geometry-mismatch", "up to 1 mm away"),
    ],
)
def test_grids_that_differ_are_told_apart(
    shape: tuple[int, ...], affine: NDArray[np.float64] | None, kind: str, found: str
) -> None:
    told = difference(header_of((4, 5, 3), AXIAL), header_of(shape, affine))
    assert told is not None
    assert told[0] == kind
    assert found in told[1]


@pytest.mark.parametrize(
    ("shape", "affine", "found"),
    [
        ((0, 4, 4), AXIAL, "0 x 4 x 4 voxels"),
        ((100_000, 100_000, 10), AXIAL, "more than the 1,000,000,000 allowed"),
        ((4, 4, 4), np.diag([1, 1, 0, 1.0]), "singular or not finite"),
        ((4, 4, 4), np.diag([1, np.nan, 1, 1.0]), "singular or not finite"),
    ],
)
def test_impossible_headers_are_refused(
    shape: tuple[int, ...], affine: NDArray[np.float64], found: str
) -> None:
    with pytest.raises(DataError, match=found):
        header_of(shape, affine)
