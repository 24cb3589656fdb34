import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from medseg.metrics.overlap import (
    EMPTY_POLICIES,
    METRICS,
    EmptyPolicy,
    confusion,
    dice,
    iou,
    measure,
    precision,
    recall,
    specificity,
)

Pair = tuple[NDArray[np.bool_], NDArray[np.bool_]]
pairs = array_shapes(min_dims=2, max_dims=3, max_side=6).flatmap(
    lambda shape: st.tuples(arrays(np.bool_, shape), arrays(np.bool_, shape))
)

EMPTY = np.zeros((4, 5), dtype=bool)
FULL = np.ones((4, 5), dtype=bool)


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def by_sets(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> dict[str, float]:
    """The definitions once more, over sets of pixel positions."""
    there = set(map(tuple, np.argwhere(truth).tolist()))
    claimed = set(map(tuple, np.argwhere(prediction).tolist()))
    background = set(np.ndindex(truth.shape)) - there
    both = len(there & claimed)
    undefined = math.nan if not there and not claimed else 0.0
    return {
        "dice": 2 * both / (len(there) + len(claimed)) if there or claimed else undefined,
        "iou": both / len(there | claimed) if there or claimed else undefined,
        "precision": both / len(claimed) if claimed else undefined,
        "recall": both / len(there) if there else undefined,
        "specificity": len(background - claimed) / len(background) if background else math.nan,
    }


def shifted_squares(side: int, shift: int) -> Pair:
    truth = np.zeros((40, 40), dtype=bool)
    truth[5 : 5 + side, 5 : 5 + side] = True
    return truth, np.roll(truth, shift, axis=1)


@pytest.mark.parametrize(("policy", "worth"), [("one", 1.0), ("zero", 0.0), ("skip", math.nan)])
def test_an_empty_truth_met_by_an_empty_prediction_is_worth_what_the_policy_says(
    policy: EmptyPolicy, worth: float
) -> None:
    values = measure(EMPTY, EMPTY, empty_policy=policy)
    assert all(same(values[name], worth) for name in ("dice", "iou", "precision", "recall"))
    assert values["specificity"] == 1


@pytest.mark.parametrize("policy", EMPTY_POLICIES)
@pytest.mark.parametrize("flip", [False, True])
def test_a_missed_structure_and_a_pure_false_alarm_are_zero_under_every_policy(
    policy: EmptyPolicy, flip: bool
) -> None:
    one_pixel = EMPTY.copy()
    one_pixel[2, 3] = True
    truth, prediction = (one_pixel, EMPTY) if flip else (EMPTY, one_pixel)
    values = measure(truth, prediction, empty_policy=policy)
    assert [values[name] for name in ("dice", "iou", "precision", "recall")] == [0, 0, 0, 0]
    assert values["specificity"] == (1 if flip else 19 / 20)


@pytest.mark.parametrize("policy", EMPTY_POLICIES)
def test_specificity_is_undefined_when_the_truth_covers_every_pixel(policy: EmptyPolicy) -> None:
    assert math.isnan(measure(FULL, EMPTY, empty_policy=policy)["specificity"])
    assert math.isnan(measure(FULL, FULL, empty_policy=policy)["specificity"])


def test_a_full_prediction_of_one_true_pixel_has_recall_one_and_precision_one_in_twenty() -> None:
    truth = EMPTY.copy()
    truth[0, 0] = True
    assert confusion(truth, FULL) == (1, 19, 0, 0)
    assert measure(truth, FULL) == {
        "dice": 2 / 21, "iou": 1 / 20, "precision": 1 / 20, "recall": 1.0, "specificity": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("shift", [0, 1, 7, 19, 20])
def test_a_square_shifted_by_d_of_its_side_a_has_dice_one_minus_d_over_a(shift: int) -> None:
    truth, prediction = shifted_squares(20, shift)
    kept = 1 - shift / 20
    assert dice(truth, prediction) == pytest.approx(kept)
    assert iou(truth, prediction) == pytest.approx(kept / (2 - kept))
    assert precision(truth, prediction) == recall(truth, prediction) == pytest.approx(kept)
    assert specificity(truth, prediction) == pytest.approx(1 - 20 * shift / 1200)


@given(pairs)
def test_every_metric_agrees_with_its_definition_over_sets(pair: Pair) -> None:
    expected = by_sets(*pair)
    assert list(expected) == list(METRICS)
    for name, metric in METRICS.items():
        assert same(metric.function(*pair), expected[name])


@given(pairs)
def test_every_metric_lies_between_zero_and_one_or_is_undefined(pair: Pair) -> None:
    assert all(math.isnan(value) or 0 <= value <= 1 for value in measure(*pair).values())


@given(pairs)
def test_dice_and_iou_are_symmetric_and_precision_swaps_with_recall(pair: Pair) -> None:
    truth, prediction = pair
    assert same(dice(truth, prediction), dice(prediction, truth))
    assert same(iou(truth, prediction), iou(prediction, truth))
    assert same(precision(truth, prediction), recall(prediction, truth))


@given(pairs)
def test_dice_is_two_iou_over_one_plus_iou(pair: Pair) -> None:
    overlap = iou(*pair)
    assert dice(*pair) == pytest.approx(2 * overlap / (1 + overlap), nan_ok=True)


@given(pairs)
def test_dice_is_the_harmonic_mean_of_precision_and_recall(pair: Pair) -> None:
    p, r = precision(*pair), recall(*pair)
    expected = 0.0 if p + r == 0 else 2 * p * r / (p + r)
    assert dice(*pair) == pytest.approx(expected, nan_ok=True)


@given(pairs)
def test_specificity_is_the_recall_of_the_background_where_there_is_some(pair: Pair) -> None:
    truth, prediction = pair
    if not truth.all():
        assert specificity(truth, prediction) == recall(~truth, ~prediction)


@given(pairs, st.integers(0, 3), st.booleans())
def test_turning_and_flipping_both_images_changes_nothing(
    pair: Pair, turns: int, flip: bool
) -> None:
    def moved(region: NDArray[Any]) -> NDArray[Any]:
        turned = np.rot90(region, turns)
        return turned[::-1] if flip else turned

    before, after = measure(*pair), measure(*map(moved, pair))
    assert all(same(before[name], after[name]) for name in METRICS)


def test_regions_of_different_shape_are_refused_rather_than_broadcast() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        confusion(EMPTY, np.zeros((1, 5), dtype=bool))
