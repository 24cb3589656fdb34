from __future__ import annotations

import math

import numpy as np
import pytest
import surface_distance
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from medseg.metrics.surface import SurfaceDistances, boundary_iou

Region = NDArray[np.bool_]
shapes = array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7)
pairs = shapes.flatmap(lambda shape: st.tuples(arrays(np.bool_, shape), arrays(np.bool_, shape)))
spacings = st.tuples(*[st.sampled_from([0.5, 1.0, 1.7, 5.0])] * 3)


def distances(
    truth: Region, prediction: Region, spacing: tuple[float, ...] = (1, 1, 1)
) -> SurfaceDistances:
    return SurfaceDistances(truth, prediction, spacing[: truth.ndim])


def numbers(found: SurfaceDistances) -> list[float]:
    return [found.hausdorff(), found.hausdorff(95), found.average(), found.dice(1.2)]


def ball(radius: float, size: int = 61) -> Region:
    grid = np.indices((size,) * 3) - size // 2
    inside: Region = (grid**2).sum(axis=0) <= radius**2
    return inside


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
@given(pair=pairs, spacing=spacings)
@settings(max_examples=60, deadline=None)
def test_all_numbers_agree_with_deepminds_surface_distance(
    pair: tuple[Region, Region], spacing: tuple[float, float, float]
) -> None:
    truth, prediction = pair
    assume(truth.any() and prediction.any())
    found = distances(truth, prediction, spacing)
    theirs = surface_distance.compute_surface_distances(truth, prediction, found.spacing)
    areas = theirs["surfel_areas_gt"].sum(), theirs["surfel_areas_pred"].sum()
    averages = surface_distance.compute_average_surface_distance(theirs)
    assert numbers(found) == pytest.approx(
        [
            surface_distance.compute_robust_hausdorff(theirs, 100),
            surface_distance.compute_robust_hausdorff(theirs, 95),
            np.average(averages, weights=areas),
            surface_distance.compute_surface_dice_at_tolerance(theirs, 1.2),
        ],
        abs=1e-9,
    )


@given(pair=pairs, spacing=spacings)
@settings(max_examples=40, deadline=None)
def test_truth_and_prediction_may_change_places(
    pair: tuple[Region, Region], spacing: tuple[float, float, float]
) -> None:
    there, back = distances(*pair, spacing), distances(*pair[::-1], spacing)
    assert numbers(there) == pytest.approx(numbers(back), nan_ok=True)


@given(pair=pairs, axis=st.integers(0, 1))
@settings(max_examples=40, deadline=None)
def test_turning_and_flipping_both_regions_changes_nothing(
    pair: tuple[Region, Region], axis: int
) -> None:
    expected = numbers(distances(*pair))
    flipped, turned = ([np.flip(r, axis) for r in pair], [np.rot90(r) for r in pair])
    assert numbers(distances(*flipped)) == pytest.approx(expected, nan_ok=True)
    assert numbers(distances(*turned)) == pytest.approx(expected, nan_ok=True)


@given(shape=shapes, data=st.data())
@settings(max_examples=40, deadline=None)
def test_the_hausdorff_distance_obeys_the_triangle_inequality(
    shape: tuple[int, ...], data: st.DataObject
) -> None:
    a, b, c = (data.draw(arrays(np.bool_, shape)) for _ in range(3))
    assume(a.any() and b.any() and c.any())
    direct = distances(a, c).hausdorff()
    assert direct <= distances(a, b).hausdorff() + distances(b, c).hausdorff() + 1e-9


@pytest.mark.parametrize(("spacing", "expected"), [((1.0, 1.0), 3.0), ((1.0, 0.4), 1.2)])
def test_a_shifted_square_is_as_far_away_as_it_was_shifted(
    spacing: tuple[float, float], expected: float
) -> None:
    square = np.zeros((30, 30), bool)
    square[5:20, 5:20] = True
    found = SurfaceDistances(square, np.roll(square, 3, axis=1), spacing)
    assert found.hausdorff() == pytest.approx(expected)
    assert found.dice(expected + 1e-9) == 1


def test_the_surfaces_of_two_balls_are_as_far_apart_as_their_radii_differ() -> None:
    """But for the thickness of the layer of neighbourhoods in which their elements lie."""
    found = distances(ball(20), ball(25))
    assert found.average() == pytest.approx(5, abs=0.6)
    assert found.hausdorff() == pytest.approx(5, abs=0.6)
    assert found.dice(3) == 0
    assert found.dice(6) == 1


def test_a_balls_surface_is_that_of_a_sphere() -> None:
    """Marching cubes on a binary ball overestimate its area by about a tenth."""
    from medseg.metrics.surface import _surface

    assert _surface(ball(20), (1, 1, 1)).sum() == pytest.approx(4 * math.pi * 20**2, rel=0.1)


def test_equal_regions_are_perfect_also_at_the_border() -> None:
    region = np.zeros((6, 7), bool)
    region[0:2, 5:] = True
    assert numbers(distances(region, region)) == [0, 0, 0, 1]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_without_both_regions_nothing_is_defined(which: int) -> None:
    region, empty = np.ones((4, 4), bool), np.zeros((4, 4), bool)
    pair = [(region, empty), (empty, region), (empty, empty)][which]
    assert all(math.isnan(number) for number in numbers(distances(*pair)))


@given(pair=pairs)
@settings(max_examples=30, deadline=None)
def test_more_tolerance_never_lowers_the_surface_dice(pair: tuple[Region, Region]) -> None:
    assume(pair[0].any() and pair[1].any())
    shares = [distances(*pair).dice(tolerance) for tolerance in (0, 0.5, 1, 2, 20)]
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_the_boundary_iou_of_squares_has_a_closed_form() -> None:
    """Two percent of this image's diagonal are two pixels."""
    truth, prediction = np.zeros((71, 71), bool), np.zeros((71, 71), bool)
    truth[10:30, 10:30] = True
    prediction[10:30, 11:31] = True
    ring = 20**2 - 16**2
    shared = 2 * 2 * 19 + 16 * 1 * 2
    assert boundary_iou(truth, prediction) == pytest.approx(shared / (2 * ring - shared))


def test_the_boundary_iou_does_not_see_what_lies_deep_inside() -> None:
    truth = np.zeros((71, 71), bool)
    truth[10:60, 10:60] = True
    hollow = truth.copy()
    hollow[30:40, 30:40] = False
    assert boundary_iou(truth, truth) == 1
    assert boundary_iou(truth, hollow) < 1
    assert math.isnan(boundary_iou(np.zeros((5, 5), bool), np.zeros((5, 5), bool)))
