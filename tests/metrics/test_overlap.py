import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from medseg.metrics import panel
from medseg.metrics.overlap import (
    accuracy,
    dice,
    f2,
    iou,
    precision,
    recall,
    specificity,
    volumetric_similarity,
)
from medseg.metrics.pair import Pair
from medseg.metrics.panel import EMPTY_POLICIES, METRICS, EmptyPolicy

OVERLAPS = ("dice", "iou", "precision", "recall", "specificity", "accuracy", "f2", "volume")

pairs = array_shapes(min_dims=2, max_dims=3, max_side=6).flatmap(
    lambda shape: st.builds(Pair, arrays(np.bool_, shape), arrays(np.bool_, shape))
)


def measure(pair: Pair, *, empty_policy: EmptyPolicy = "one") -> dict[str, float]:
    return panel.measure(pair, OVERLAPS, empty_policy=empty_policy)


EMPTY = np.zeros((4, 5), dtype=bool)
FULL = np.ones((4, 5), dtype=bool)


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def by_sets(pair: Pair) -> dict[str, float]:
    """The definitions once more, over sets of pixel positions."""
    truth, prediction = pair.truth, pair.prediction
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
        "accuracy": (both + len(background - claimed)) / truth.size,
        "f2": 5 * both / (4 * len(there) + len(claimed)) if there or claimed else undefined,
        "volume": 1 - abs(len(there) - len(claimed)) / (len(there) + len(claimed))
        if there or claimed
        else undefined,
    }


def shifted_squares(side: int, shift: int) -> Pair:
    truth = np.zeros((40, 40), dtype=bool)
    truth[5 : 5 + side, 5 : 5 + side] = True
    return Pair(truth, np.roll(truth, shift, axis=1))


@pytest.mark.parametrize(("policy", "worth"), [("one", 1.0), ("zero", 0.0), ("skip", math.nan)])
def test_an_empty_truth_met_by_an_empty_prediction_is_worth_what_the_policy_says(
    policy: EmptyPolicy, worth: float
) -> None:
    values = measure(Pair(EMPTY, EMPTY), empty_policy=policy)
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
    values = measure(Pair(truth, prediction), empty_policy=policy)
    assert [values[name] for name in ("dice", "iou", "precision", "recall")] == [0, 0, 0, 0]
    assert values["specificity"] == (1 if flip else 19 / 20)


@pytest.mark.parametrize("policy", EMPTY_POLICIES)
def test_specificity_is_undefined_when_the_truth_covers_every_pixel(policy: EmptyPolicy) -> None:
    assert math.isnan(measure(Pair(FULL, EMPTY), empty_policy=policy)["specificity"])
    assert math.isnan(measure(Pair(FULL, FULL), empty_policy=policy)["specificity"])


def test_a_full_prediction_of_one_true_pixel_has_recall_one_and_precision_one_in_twenty() -> None:
    truth = EMPTY.copy()
    truth[0, 0] = True
    assert Pair(truth, FULL).confusion == (1, 19, 0, 0)
    assert measure(Pair(truth, FULL)) == {
        "dice": 2 / 21, "iou": 1 / 20, "precision": 1 / 20, "recall": 1.0, "specificity": 0.0,
        "accuracy": 1 / 20, "f2": 5 / 24, "volume": 2 / 21,
    }  # fmt: skip


@pytest.mark.parametrize("shift", [0, 1, 7, 19, 20])
def test_a_square_shifted_by_d_of_its_side_a_has_dice_one_minus_d_over_a(shift: int) -> None:
    pair = shifted_squares(20, shift)
    kept = 1 - shift / 20
    assert dice(pair) == f2(pair) == pytest.approx(kept)
    assert iou(pair) == pytest.approx(kept / (2 - kept))
    assert precision(pair) == recall(pair) == pytest.approx(kept)
    assert specificity(pair) == pytest.approx(1 - 20 * shift / 1200)
    assert accuracy(pair) == pytest.approx(1 - 40 * shift / 1600)
    assert volumetric_similarity(pair) == 1


@given(pairs)
def test_every_metric_agrees_with_its_definition_over_sets(pair: Pair) -> None:
    for name, expected in by_sets(pair).items():
        assert METRICS[name].function(pair) == pytest.approx(expected, nan_ok=True)


@given(pairs)
def test_every_metric_lies_between_zero_and_one_or_is_undefined(pair: Pair) -> None:
    assert all(math.isnan(value) or 0 <= value <= 1 for value in measure(pair).values())


@given(pairs)
def test_dice_and_iou_are_symmetric_and_precision_swaps_with_recall(pair: Pair) -> None:
    swapped = Pair(pair.prediction, pair.truth)
    assert same(dice(pair), dice(swapped))
    assert same(iou(pair), iou(swapped))
    assert same(precision(pair), recall(swapped))


@given(pairs)
def test_dice_is_two_iou_over_one_plus_iou(pair: Pair) -> None:
    overlap = iou(pair)
    assert dice(pair) == pytest.approx(2 * overlap / (1 + overlap), nan_ok=True)


@given(pairs)
def test_dice_is_the_harmonic_mean_of_precision_and_recall(pair: Pair) -> None:
    p, r = precision(pair), recall(pair)
    expected = 0.0 if p + r == 0 else 2 * p * r / (p + r)
    assert dice(pair) == pytest.approx(expected, nan_ok=True)


@given(pairs)
def test_specificity_is_the_recall_of_the_background_where_there_is_some(pair: Pair) -> None:
    if not pair.truth.all():
        assert specificity(pair) == recall(Pair(~pair.truth, ~pair.prediction))


@given(pairs, st.integers(0, 3), st.booleans())
def test_turning_and_flipping_both_images_changes_nothing(
    pair: Pair, turns: int, flip: bool
) -> None:
    def moved(region: NDArray[Any]) -> NDArray[Any]:
        turned = np.rot90(region, turns)
        return turned[::-1] if flip else turned

    after = measure(Pair(moved(pair.truth), moved(pair.prediction)))
    assert all(same(value, after[name]) for name, value in measure(pair).items())


def test_regions_of_different_shape_are_refused_rather_than_broadcast() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        Pair(EMPTY, np.zeros((1, 5), dtype=bool))
