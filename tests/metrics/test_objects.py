from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from medseg.metrics.objects import (
    ObjectPair,
    aji,
    aji_plus,
    average_precision,
    components,
    object_dice,
    object_f1,
    object_hausdorff,
    panoptic_quality,
    precision_at,
)

Map = NDArray[np.int64]
Pixels = frozenset[tuple[int, ...]]

maps = arrays(np.int64, (5, 6), elements=st.integers(0, 4))
pairs = st.tuples(maps, maps)

SHARES: dict[str, Callable[[ObjectPair], float]] = {
    "aji": aji,
    "aji+": aji_plus,
    "pq": lambda pair: panoptic_quality(pair).pq,
    "sq": lambda pair: panoptic_quality(pair).sq,
    "rq": lambda pair: panoptic_quality(pair).rq,
    "ap": average_precision,
    "f1": object_f1,
    "dice": object_dice,
}
ALL = {**SHARES, "hausdorff": object_hausdorff}


def numbers(truth: Map, prediction: Map) -> dict[str, float]:
    pair = ObjectPair(truth, prediction)
    return {name: metric(pair) for name, metric in ALL.items()}


def row(*lengths: int) -> Map:
    """Objects side by side in one row; a negative length is a gap."""
    cells = [[0 if n < 0 else label] * abs(n) for label, n in enumerate(lengths, start=1)]
    return np.array([list(itertools.chain(*cells))])


# A second implementation, over sets of pixels.


def sets(objects: Map) -> list[Pixels]:
    return [
        frozenset(map(tuple, np.argwhere(objects == value).tolist()))
        for value in np.unique(objects[objects > 0])
    ]


def overlap(a: Pixels, b: Pixels) -> float:
    return len(a & b) / len(a | b)


def dice(a: Pixels, b: Pixels) -> float:
    return 2 * len(a & b) / (len(a) + len(b))


def hausdorff(a: Pixels, b: Pixels) -> float:
    ways = ((a, b), (b, a))
    return max(max(min(math.dist(x, y) for y in theirs) for x in own) for own, theirs in ways)


def aji_of_sets(truth: list[Pixels], prediction: list[Pixels]) -> float:
    shared, union, used = 0, 0, set()
    for g in truth:
        touching = [p for p in prediction if g & p]
        best = max(touching, key=lambda p: (overlap(g, p), len(g & p)), default=frozenset())
        shared, union = shared + len(g & best), union + len(g | best)
        used.add(best)
    return shared / (union + sum(len(p) for p in prediction if p not in used))


def aji_plus_of_sets(truth: list[Pixels], prediction: list[Pixels]) -> set[float]:
    """The AJI of every pairing with the largest sum of IoU; several may be equally good."""
    spare: list[Pixels] = [frozenset() for _ in truth]
    found: dict[float, set[float]] = {}
    for chosen in itertools.permutations([*prediction, *spare], len(truth)):
        matched = [(g, p) for g, p in zip(truth, chosen, strict=True) if g & p]
        total = sum(overlap(g, p) for g, p in matched)
        shared = sum(len(g & p) for g, p in matched)
        alone = sum(map(len, truth)) + sum(map(len, prediction))
        alone -= sum(len(g) + len(p) for g, p in matched)
        union = sum(len(g | p) for g, p in matched)
        found.setdefault(round(total, 9), set()).add(shared / (union + alone))
    return found[max(found)]


def partner(own: Pixels, others: list[Pixels]) -> Pixels | None:
    return max((p for p in others if own & p), key=lambda p: len(own & p), default=None)


def f1_of_sets(truth: list[Pixels], prediction: list[Pixels]) -> float:
    right = 0
    for p in prediction:
        g = partner(p, truth)
        right += g is not None and len(g & p) > len(g) / 2
    return 2 * right / (len(truth) + len(prediction))


def weighted(
    truth: list[Pixels], prediction: list[Pixels], value: Callable[[Pixels, list[Pixels]], float]
) -> float:
    ways = ((truth, prediction), (prediction, truth))
    sums = [
        sum(len(o) * value(o, others) for o in own) / sum(map(len, own)) for own, others in ways
    ]
    return sum(sums) / 2


def dice_with_partner(own: Pixels, others: list[Pixels]) -> float:
    match = partner(own, others)
    return 0.0 if match is None else dice(own, match)


def distance_to_partner(own: Pixels, others: list[Pixels]) -> float:
    match = partner(own, others)
    return min(hausdorff(own, o) for o in others) if match is None else hausdorff(own, match)


@given(pairs)
@settings(max_examples=60, deadline=None)
def test_all_numbers_agree_with_sets_of_pixels(pair: tuple[Map, Map]) -> None:
    found = numbers(*pair)
    truth, prediction = map(sets, pair)
    if not (truth and prediction):
        assert all(found[name] == 0 or not (truth or prediction) for name in SHARES)
        return
    assert found["aji"] == pytest.approx(aji_of_sets(truth, prediction))
    assert any(
        found["aji+"] == pytest.approx(other) for other in aji_plus_of_sets(truth, prediction)
    )
    ious = [overlap(g, p) for g in truth for p in prediction if overlap(g, p) > 0.5]
    objects = len(truth) + len(prediction)
    assert found["pq"] == pytest.approx(2 * sum(ious) / objects)
    assert found["rq"] == pytest.approx(2 * len(ious) / objects)
    assert found["sq"] == pytest.approx(sum(ious) / len(ious) if ious else 0)
    hits = [sum(iou > t / 100 for iou in ious) for t in range(50, 100, 5)]
    assert found["ap"] == pytest.approx(sum(n / (objects - n) for n in hits) / 10)
    assert found["f1"] == pytest.approx(f1_of_sets(truth, prediction))
    assert found["dice"] == pytest.approx(weighted(truth, prediction, dice_with_partner))
    assert found["hausdorff"] == pytest.approx(weighted(truth, prediction, distance_to_partner))


def test_a_true_object_cut_in_two_has_values_worked_out_by_hand() -> None:
    """Objects of 10 and 4 pixels; the first is found as 6 and 4, the second is missed."""
    truth, prediction = row(10, -2, 4), row(6, 4, -6)
    found = numbers(truth, prediction)
    assert found["aji"] == pytest.approx(6 / (10 + 4 + 4))
    assert found["aji+"] == pytest.approx(6 / (10 + 4 + 4))
    assert (found["sq"], found["rq"]) == pytest.approx((0.6, 2 / 4))
    assert found["pq"] == pytest.approx(0.3)
    assert found["ap"] == pytest.approx(2 / 10 * 1 / 3)
    assert found["f1"] == pytest.approx(2 * 1 / 4)
    assert found["dice"] == pytest.approx((10 / 14 * 0.75 + 0.6 * 0.75 + 0.4 * 8 / 14) / 2)
    # The missed object is 6 pixels from its nearest, the second half.
    assert found["hausdorff"] == pytest.approx((10 * 4 + 4 * 6) / 14 / 2 + (6 * 4 + 4 * 6) / 10 / 2)


def test_one_prediction_over_two_objects_is_reused_by_aji_and_not_by_aji_plus() -> None:
    truth, prediction = row(5, 3), row(8)
    assert aji(ObjectPair(truth, prediction)) == pytest.approx((5 + 3) / (8 + 8))
    assert aji_plus(ObjectPair(truth, prediction)) == pytest.approx(5 / (8 + 3))


def test_a_shifted_object_has_the_closed_form_of_its_shift() -> None:
    truth = np.zeros((20, 20), np.int64)
    truth[4:12, 4:12] = 7
    found = numbers(truth, np.roll(truth, 2, axis=1))
    assert found["aji"] == found["sq"] == pytest.approx(48 / 80)
    assert found["dice"] == pytest.approx(48 / 64)
    assert found["hausdorff"] == 2
    assert found["ap"] == pytest.approx(0.2)


def test_an_iou_equal_to_a_threshold_is_not_above_it() -> None:
    pair = ObjectPair(row(20), row(11, -9))
    assert [precision_at(pair, percent) for percent in (50, 54, 55, 60)] == [1, 1, 0, 0]
    assert panoptic_quality(ObjectPair(row(20), row(10, -10))).rq == 0


def test_two_halves_of_an_object_are_not_both_right() -> None:
    assert object_f1(ObjectPair(row(10), row(5, 5))) == 0
    assert object_f1(ObjectPair(row(10), row(6, 4))) == pytest.approx(2 / 3)


@given(maps)
@settings(max_examples=40, deadline=None)
def test_objects_found_exactly_are_perfect(truth: Map) -> None:
    found = numbers(truth, truth)
    if not truth.any():
        assert all(math.isnan(value) for value in found.values())
    else:
        assert {found[name] for name in SHARES} == {1.0}
        assert found["hausdorff"] == 0


def test_without_any_object_nothing_is_defined() -> None:
    assert all(math.isnan(value) for value in numbers(row(-5), row(-5)).values())


@pytest.mark.parametrize("missed", [True, False])
def test_objects_on_one_side_only_are_worth_zero_and_have_no_distance(missed: bool) -> None:
    sides = (row(3, 2), row(-5))
    found = numbers(*(sides if missed else sides[::-1]))
    assert {found[name] for name in SHARES} == {0.0}
    assert math.isnan(found["hausdorff"])


@given(pairs, st.permutations([1, 2, 3, 4]))
@settings(max_examples=40, deadline=None)
def test_which_number_an_object_has_does_not_matter(
    pair: tuple[Map, Map], order: list[int]
) -> None:
    renamed = np.array([0, *order])
    pq = panoptic_quality(ObjectPair(*pair))
    other = panoptic_quality(ObjectPair(renamed[pair[0]], renamed[pair[1]]))
    assert pq == pytest.approx(other, nan_ok=True)
    huge = pair[0] * 10**12
    assert numbers(huge, pair[1]) == pytest.approx(numbers(*pair), nan_ok=True)


@given(pairs)
@settings(max_examples=40, deadline=None)
def test_truth_and_prediction_may_change_places_but_for_aji_and_f1(
    pair: tuple[Map, Map],
) -> None:
    there, back = numbers(*pair), numbers(*pair[::-1])
    for name in ("pq", "sq", "rq", "ap", "dice", "hausdorff"):
        assert there[name] == pytest.approx(back[name], nan_ok=True)


@given(pairs)
@settings(max_examples=40, deadline=None)
def test_shares_lie_between_zero_and_one_and_pq_is_a_product(pair: tuple[Map, Map]) -> None:
    found = numbers(*pair)
    assert all(not found[name] > 1 and not found[name] < 0 for name in SHARES)
    assert found["pq"] == pytest.approx(found["sq"] * found["rq"], nan_ok=True)


def test_distances_are_in_units_of_the_spacing_and_volumes_have_them_too() -> None:
    truth = np.zeros((6, 9, 9), np.int64)
    truth[2, 2:5, 2:5] = 1
    moved = np.roll(truth, 2, axis=0)
    assert object_hausdorff(ObjectPair(truth, moved, spacing=(2.5, 1, 1))) == 5
    assert object_hausdorff(ObjectPair(truth, moved)) == 2


def test_components_part_objects_that_touch_at_corners_unless_diagonal() -> None:
    region = np.eye(3, dtype=bool)
    assert components(region).max() == 3
    assert components(region, diagonal=True).max() == 1


@pytest.mark.parametrize(
    ("truth", "prediction", "found"),
    [
        (np.zeros((2, 3), np.int64), np.zeros((3, 2), np.int64), "differ in shape"),
        (np.zeros((2, 3)), np.zeros((2, 3), np.int64), "not float64"),
        (np.zeros((2, 3), np.int64), np.full((2, 3), -4), "no negative number such as -4"),
        (np.zeros((2, 3), bool), np.zeros((2, 3), np.int64), "not bool"),
    ],
)
def test_maps_that_hold_no_objects_are_refused(truth: Map, prediction: Map, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        ObjectPair(truth, prediction)


def test_a_threshold_at_which_pairs_are_not_unique_is_refused() -> None:
    with pytest.raises(ValueError, match="percent 49"):
        precision_at(ObjectPair(row(2), row(2)), 49)


def test_a_spacing_of_another_number_of_axes_is_refused() -> None:
    with pytest.raises(ValueError, match="spacing"):
        ObjectPair(row(2), row(2), spacing=(1, 1, 1))
