"""Volumes on a grid of another spacing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medseg.data.case import IGNORE
from medseg.data.volumes.resample import (
    axis_apart,
    nearest_places,
    resample_image,
    resample_mask,
    resampled_shape,
)

SHAPES = st.tuples(*[st.integers(1, 9)] * 3)


def ball(side: int, radius: float) -> NDArray[np.uint8]:
    """A ball in the middle of a cube, its radius as a share of the side."""
    centres = (np.arange(side) + 0.5) / side - 0.5
    squared = np.add.outer(np.add.outer(centres**2, centres**2), centres**2)
    return (squared < radius**2).astype(np.uint8)


def test_the_extent_is_kept_to_half_a_voxel() -> None:
    assert resampled_shape((10, 64, 64), (8.0, 0.7, 0.7), (4.0, 1.4, 1.0)) == (20, 32, 45)


def test_one_slice_stays_one_slice() -> None:
    assert resampled_shape((1, 4, 4), (1.0, 1.0, 1.0), (5.0, 1.0, 1.0)) == (1, 4, 4)


def test_spacings_that_differ_by_rounding_are_one() -> None:
    assert resampled_shape((1000, 4, 4), (1.0006, 1.0, 1.0), (1.0, 1.0, 1.0)) == (1000, 4, 4)


@pytest.mark.parametrize(
    ("spacing", "target", "axis"),
    [
        ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), None),
        ((3.0, 1.0, 1.0), (1.0, 1.0, 1.0), None),
        ((5.0, 1.0, 1.0), (1.0, 1.0, 1.0), 0),
        ((1.0, 1.0, 1.0), (1.0, 5.0, 1.0), 1),
        ((5.0, 1.0, 1.0), (1.0, 1.0, 5.0), 0),
        # Two axes are equally coarse: neither is between the slices of an acquisition.
        ((5.0, 5.0, 1.0), (1.0, 1.0, 1.0), None),
    ],
)
def test_an_axis_three_times_as_coarse_is_resampled_apart(
    spacing: tuple[float, float, float], target: tuple[float, float, float], axis: int | None
) -> None:
    assert axis_apart(spacing, target) == axis


@given(shape=SHAPES, wanted=SHAPES, apart=st.sampled_from([None, 0, 1, 2]))
@settings(max_examples=40, deadline=None)
def test_resampled_values_stay_within_those_of_the_image(
    shape: tuple[int, int, int], wanted: tuple[int, int, int], apart: int | None
) -> None:
    image = np.random.default_rng(sum(shape)).normal(size=(2, *shape)).astype(np.float32)
    found = resample_image(image, wanted, apart=apart)
    assert found.shape == (2, *wanted)
    assert (found.min(axis=(1, 2, 3)) >= image.min(axis=(1, 2, 3))).all()
    assert (found.max(axis=(1, 2, 3)) <= image.max(axis=(1, 2, 3))).all()


@given(shape=SHAPES, wanted=SHAPES, apart=st.sampled_from([None, 0, 1, 2]))
@settings(max_examples=40, deadline=None)
def test_no_class_is_invented(
    shape: tuple[int, int, int], wanted: tuple[int, int, int], apart: int | None
) -> None:
    classes = np.array([0, 2, 7, IGNORE], np.uint8)
    mask = np.random.default_rng(sum(shape)).choice(classes, shape)
    found = resample_mask(mask, wanted, apart=apart)
    assert found.shape == wanted
    assert set(np.unique(found)) <= set(np.unique(mask))


def test_a_slope_stays_a_slope_at_the_new_places() -> None:
    image = np.broadcast_to(np.arange(16, dtype=np.float32), (1, 8, 8, 16)).copy()
    found = resample_image(image, (8, 8, 32))
    # The voxel i of 32 lies at (i + 0.5) / 2 - 0.5 of the old ones; borders are flat.
    expected = (np.arange(32) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(found[0, 4, 4, 4:-4], expected[4:-4], atol=0.02)


def test_equal_shapes_leave_every_bit() -> None:
    image = np.random.default_rng(0).normal(size=(1, 4, 5, 6)).astype(np.float32)
    assert resample_image(image, (4, 5, 6)) is image


def test_the_coarse_axis_repeats_slices_and_mixes_none() -> None:
    image = np.random.default_rng(0).normal(size=(1, 4, 6, 6)).astype(np.float32)
    found = resample_image(image, (12, 6, 6), apart=0)
    np.testing.assert_array_equal(found, np.repeat(image, 3, axis=1))


def test_nearest_places_are_centred() -> None:
    assert nearest_places(6, 3).tolist() == [1, 3, 5]
    assert nearest_places(3, 6).tolist() == [0, 0, 1, 1, 2, 2]


def test_classes_resampled_linearly_lose_less_than_nearest_voxels() -> None:
    fine, coarse = ball(48, 0.35), (20, 20, 20)
    there = resample_mask(fine, coarse)
    back = resample_mask(there, fine.shape)
    places = nearest_places(48, 20)
    nearest = fine[np.ix_(places, places, places)]
    places = nearest_places(20, 48)
    nearest = nearest[np.ix_(places, places, places)]

    def dice(found: NDArray[np.uint8]) -> float:
        return float(2 * (found & fine).sum() / (found.sum() + fine.sum()))

    assert dice(back) > 0.96
    assert dice(back) > dice(nearest)
