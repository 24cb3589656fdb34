from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from medseg.inference.components import components
from medseg.serve.contours import contours

REGIONS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))


def signed_area(polygon: list[list[int]]) -> float:
    """Positive for one that runs clockwise as seen, where y grows downwards."""
    x, y = np.array(polygon).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


@given(region=REGIONS)
def test_the_areas_within_all_outlines_sum_up_to_the_region(region: NDArray[np.bool_]) -> None:
    assert sum(map(signed_area, contours(region))) == region.sum()


@given(region=REGIONS)
def test_every_component_has_one_outer_outline(region: NDArray[np.bool_]) -> None:
    outer = [each for each in contours(region) if signed_area(each) > 0]
    _, sizes = components(region)
    assert len(outer) == len(sizes)


@given(region=REGIONS)
def test_an_outline_turns_at_each_of_its_points(region: NDArray[np.bool_]) -> None:
    for polygon in contours(region):
        steps = np.diff(np.array([*polygon, polygon[0], polygon[1]]), axis=0)
        assert ((steps != 0).sum(axis=1) == 1).all()
        assert ((steps[1:] != 0) != (steps[:-1] != 0)).all()


@given(region=REGIONS)
def test_outlines_turn_with_the_region(region: NDArray[np.bool_]) -> None:
    def points(found: list[list[list[int]]]) -> set[tuple[int, int]]:
        return {(x, y) for polygon in found for x, y in polygon}

    assert points(contours(region.T)) == {(y, x) for x, y in points(contours(region))}


def test_a_hole_has_an_outline_of_its_own() -> None:
    ring = np.ones((3, 4), bool)
    ring[1, 1:3] = False
    outer, inner = contours(ring)
    assert outer == [[0, 0], [4, 0], [4, 3], [0, 3]]
    assert signed_area(inner) == -2


@pytest.mark.parametrize("shape", [(1, 1), (5, 7)])
def test_an_empty_region_has_no_outline(shape: tuple[int, int]) -> None:
    assert contours(np.zeros(shape, bool)) == []
