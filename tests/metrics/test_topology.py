from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from scipy import ndimage

from medseg.metrics.topology import cl_dice, skeleton, topology_precision_and_sensitivity

Region = NDArray[np.bool_]

flat = array_shapes(min_dims=2, max_dims=2, max_side=9)
deep = array_shapes(min_dims=3, max_dims=3, max_side=5)
regions = (flat | deep).flatmap(
    # Dense ones too, which have an inside, holes and cavities.
    lambda shape: arrays(np.float64, shape, elements=st.floats(0, 1)).flatmap(
        lambda noise: st.sampled_from([0.2, 0.5, 0.8]).map(lambda share: noise < share)
    )
)


def euler(region: Region) -> int:
    """Vertices - edges + faces - cubes of the region's closed pixels, counted one by one."""
    cells = np.zeros([2 * length + 1 for length in region.shape], bool)
    for place in np.argwhere(region):
        cells[tuple(slice(2 * at, 2 * at + 3) for at in place)] = True
    return int(sum((-1) ** int((place % 2).sum()) for place in np.argwhere(cells)))


def topology(region: Region) -> tuple[int, int, int]:
    """Pieces, pieces of the background, and the Euler number, which then counts tunnels."""
    outside = np.pad(~region, 1, constant_values=True)
    pieces = ndimage.label(region, np.ones((3,) * region.ndim))[1]
    return pieces, ndimage.label(outside)[1], euler(region)


def neighbours(region: Region, place: tuple[int, ...]) -> int:
    window = tuple(slice(max(at - 1, 0), at + 2) for at in place)
    return int(region[window].sum()) - 1


@given(regions)
@settings(max_examples=150, deadline=None)
def test_a_skeleton_lies_in_its_region_and_has_its_pieces_holes_and_cavities(
    region: Region,
) -> None:
    line = skeleton(region)
    assert not (line & ~region).any()
    assert topology(line) == topology(region)


@given(regions)
@settings(max_examples=60, deadline=None)
def test_a_skeleton_can_lose_no_pixel_but_the_ends_of_its_lines(region: Region) -> None:
    line = skeleton(region)
    before = topology(line)
    for place in map(tuple, np.argwhere(line).tolist()):
        without = line.copy()
        without[place] = False
        assert neighbours(line, place) <= 1 or topology(without) != before


@given(regions)
@settings(max_examples=40, deadline=None)
def test_a_skeleton_is_its_own_skeleton(region: Region) -> None:
    line = skeleton(region)
    np.testing.assert_array_equal(skeleton(line), line)


@given(regions, st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_where_a_region_lies_in_the_image_does_not_matter(region: Region, margin: int) -> None:
    moved = skeleton(np.pad(region, (margin, 1)))
    np.testing.assert_array_equal(moved, np.pad(skeleton(region), (margin, 1)))


@given(regions)
@settings(max_examples=20, deadline=None)
def test_how_a_region_lies_in_memory_does_not_matter(region: Region) -> None:
    """Volumes read from NIfTI files have their first axis innermost."""
    np.testing.assert_array_equal(skeleton(np.asfortranarray(region)), skeleton(region))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_bar_is_thinned_to_its_middle(axis: int) -> None:
    bar = np.zeros((9, 9, 25), bool)
    bar[2:7, 2:7, 2:23] = True
    line = np.moveaxis(skeleton(np.moveaxis(bar, 2, axis)), axis, 2)
    assert {(y, x) for y, x, _ in np.argwhere(line)} == {(4, 4)}
    assert line.sum() >= 21 - 2 * 2


def test_a_disc_has_no_branches() -> None:
    y, x = np.mgrid[:101, :101]
    assert skeleton(np.hypot(y - 50, x - 50) < 45).sum() <= 3


def vessels(shift: float = 0.0, *, gap: int = 0) -> Region:
    """Two waves, 5 and 7 pixels wide, that cross; a part of the columns may be missing."""
    y, x = np.mgrid[:96, :160]
    first = np.abs(y - 48 - 30 * np.sin(x / 17) - shift) < 2.5 * np.hypot(1, 30 / 17)
    second = np.abs(y - 40 - 0.12 * x - shift) < 3.5
    region = first | second
    region[:, 80 : 80 + gap] = False
    return region


@pytest.mark.parametrize(
    ("shift", "gap", "expected"), [(0, 12, 0.9643), (1, 0, 1), (3, 0, 0.9529), (5, 8, 0.4215)]
)
def test_cl_dice_is_near_that_of_another_programs_skeletons(
    shift: float, gap: int, expected: float
) -> None:
    """skeletonize(method="lee") of scikit-image 0.25.2; single pixels lie elsewhere."""
    assert cl_dice(vessels(), vessels(shift, gap=gap)) == pytest.approx(expected, abs=0.003)


def bar(width: int = 5, *, gap: int = 0) -> Region:
    region = np.zeros((15, 60), bool)
    half = width // 2
    region[7 - half : 8 + half, 5:55] = True
    region[:, 25 : 25 + gap] = False
    return region


def test_an_interrupted_vessel_lacks_its_gap_in_sensitivity_only() -> None:
    length = skeleton(bar()).sum()
    precision, sensitivity = topology_precision_and_sensitivity(bar(), bar(gap=6))
    assert precision == 1
    assert sensitivity == pytest.approx(1 - 6 / length)
    assert cl_dice(bar(), bar(gap=6)) == pytest.approx(2 * sensitivity / (1 + sensitivity))


def test_a_wrong_width_costs_nothing() -> None:
    assert cl_dice(bar(3), bar(7)) == cl_dice(bar(7), bar(3)) == 1


@given(regions.filter(np.any))
@settings(max_examples=30, deadline=None)
def test_equal_regions_are_perfect(region: Region) -> None:
    assert cl_dice(region, region) == 1


@given(flat.flatmap(lambda shape: st.tuples(arrays(np.bool_, shape), arrays(np.bool_, shape))))
@settings(max_examples=40, deadline=None)
def test_truth_and_prediction_may_change_places(pair: tuple[Region, Region]) -> None:
    found = cl_dice(*pair)
    assert found == pytest.approx(cl_dice(*pair[::-1]), nan_ok=True)
    assert math.isnan(found) or 0 <= found <= 1


def test_one_empty_region_is_worth_zero_and_two_are_undefined() -> None:
    region, empty = bar(), np.zeros_like(bar())
    assert cl_dice(region, empty) == cl_dice(empty, region) == 0
    assert math.isnan(cl_dice(empty, empty))
    assert not skeleton(empty).any()


def test_regions_that_lie_apart_share_nothing() -> None:
    region = np.zeros((6, 20), bool)
    region[1:4, 1:8] = True
    assert cl_dice(region, region[:, ::-1]) == 0


@pytest.mark.parametrize("shape", [(5,), (2, 2, 2, 2)])
def test_other_numbers_of_axes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"{len(shape)} axes"):
        skeleton(np.ones(shape, bool))


def test_regions_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        cl_dice(np.ones((2, 3)), np.ones((3, 2)))
