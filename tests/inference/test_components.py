from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from medseg.inference.bundle import Postprocessing
from medseg.inference.components import clean, components

KEEP = Postprocessing(keep_largest=True)
MASKS = arrays(
    np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2)
)


def filled(region: NDArray[np.bool_]) -> list[set[tuple[int, int]]]:
    """The components by flood filling, in the order in which rows meet them."""
    left = {(int(row), int(column)) for row, column in np.argwhere(region)}
    found = []
    while left:
        start = min(left)
        left.remove(start)
        component, border = {start}, [start]
        while border:
            row, column = border.pop()
            near = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            component |= near
            border += near
        found.append(component)
    return found


@given(mask=MASKS)
@settings(deadline=None)
def test_components_are_those_of_flood_filling(mask: NDArray[np.uint8]) -> None:
    numbers, sizes = components(mask > 0)
    expected = filled(mask > 0)
    assert sizes.tolist() == [len(component) for component in expected]
    for number, component in enumerate(expected, 1):
        assert {(int(r), int(c)) for r, c in np.argwhere(numbers == number)} == component


@given(mask=MASKS, keep=st.booleans(), least=st.integers(0, 12))
@settings(deadline=None)
def test_each_class_keeps_what_the_rules_say(
    mask: NDArray[np.uint8], keep: bool, least: int
) -> None:
    before = mask.copy()
    cleaned = clean(mask, Postprocessing(keep_largest=keep, min_pixels=least))
    assert np.array_equal(mask, before)
    expected = np.zeros_like(mask)
    for index in (1, 2):
        found = [each for each in filled(mask == index) if len(each) >= least]
        largest = [max(filled(mask == index), key=len, default=set())] if keep else found
        for component in largest:
            for place in component if len(component) >= least else ():
                expected[place] = index
    assert np.array_equal(cleaned, expected)


def test_cleaning_twice_is_cleaning_once() -> None:
    mask = np.random.default_rng(0).integers(0, 3, (40, 50)).astype(np.uint8)
    for rules in (KEEP, Postprocessing(min_pixels=6)):
        once = clean(mask, rules)
        assert np.array_equal(clean(once, rules), once)


@pytest.mark.parametrize("rules", [Postprocessing(), Postprocessing(min_pixels=1)])
def test_rules_that_drop_nothing_return_the_mask_itself(rules: Postprocessing) -> None:
    mask = np.random.default_rng(0).integers(0, 3, (9, 9)).astype(np.uint8)
    assert clean(mask, rules) is mask


def test_of_equal_components_the_first_met_stays() -> None:
    mask = np.array([[0, 0, 0, 1], [1, 0, 0, 0]], np.uint8)
    assert clean(mask, KEEP).tolist() == [[0, 0, 0, 1], [0, 0, 0, 0]]


def test_pixels_that_touch_at_a_corner_belong_together() -> None:
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 0]], np.uint8)
    assert clean(mask, KEEP).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]


def test_the_ends_of_neighbouring_rows_do_not_touch() -> None:
    mask = np.array([[0, 0, 1], [1, 0, 0]], np.uint8)
    assert len(components(mask > 0)[1]) == 2


@pytest.mark.parametrize("value", [0, 1])
def test_a_mask_of_one_class_stays_as_it_is(value: int) -> None:
    mask = np.full((5, 7), value, np.uint8)
    assert np.array_equal(clean(mask, KEEP), mask)


def test_a_spiral_is_one_component() -> None:
    region = np.zeros((101, 101), bool)
    row = column = 0
    region[0, 0] = True
    turns = itertools.cycle([(0, 1), (1, 0), (0, -1), (-1, 0)])
    for length, step in zip(
        [100, 100, 100, *np.repeat(np.arange(98, 0, -2), 2)], turns, strict=False
    ):
        for _ in range(length):
            row, column = row + step[0], column + step[1]
            region[row, column] = True
    numbers, sizes = components(region)
    assert sizes.tolist() == [region.sum()]
    assert np.array_equal(numbers > 0, region)
