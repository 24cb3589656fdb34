from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from medseg.errors import MedsegError
from medseg.metrics.pair import Pair
from medseg.metrics.panel import EMPTY_POLICIES, METRICS, EmptyPolicy, measure, metrics_named

EMPTY, FULL = np.zeros((6, 8), bool), np.ones((6, 8), bool)
ONE_PIXEL = EMPTY.copy()
ONE_PIXEL[2, 3] = True

masks = array_shapes(min_dims=2, max_dims=3, max_side=6).flatmap(
    lambda shape: st.tuples(*[arrays(np.bool_, shape)] * 3)
)


def worst(name: str, pair: Pair) -> float:
    return pair.diagonal if METRICS[name].distance else 0.0


GRADED = [name for name, metric in METRICS.items() if metric.graded]


UNAFFECTED = ("specificity", "accuracy")
"""Defined whatever is empty."""
UNGRADED = [name for name, metric in METRICS.items() if not metric.graded]


@pytest.mark.parametrize("name", [name for name in UNGRADED if name not in UNAFFECTED])
@pytest.mark.parametrize("policy", EMPTY_POLICIES)
@pytest.mark.parametrize(("truth", "prediction"), [(ONE_PIXEL, EMPTY), (EMPTY, ONE_PIXEL)])
def test_a_missed_structure_and_a_false_alarm_take_the_worst_value_under_every_policy(
    name: str, policy: EmptyPolicy, truth: NDArray[np.bool_], prediction: NDArray[np.bool_]
) -> None:
    pair = Pair(truth, prediction, spacing=(1, 2))
    assert measure(pair, [name], empty_policy=policy)[name] == worst(name, pair)


@pytest.mark.parametrize("name", [name for name in UNGRADED if name not in UNAFFECTED])
def test_two_empty_regions_are_perfect_worst_or_left_out_as_the_policy_says(name: str) -> None:
    pair = Pair(EMPTY, EMPTY)
    values = [measure(pair, [name], empty_policy=policy)[name] for policy in EMPTY_POLICIES]
    assert values[:2] == [METRICS[name].best, worst(name, pair)]
    assert math.isnan(values[2])


@pytest.mark.parametrize("name", UNGRADED)
@pytest.mark.parametrize("truth", [ONE_PIXEL, ~ONE_PIXEL])
def test_a_perfect_prediction_has_the_best_value(name: str, truth: NDArray[np.bool_]) -> None:
    assert measure(Pair(truth, truth), [name])[name] == METRICS[name].best


@given(three=masks)
@settings(max_examples=60, deadline=None)
def test_what_is_predicted_where_nothing_is_known_does_not_matter(
    three: tuple[NDArray[np.bool_], ...],
) -> None:
    truth, prediction, known = three
    expected = measure(Pair(truth, prediction, known), UNGRADED)
    changed = measure(Pair(truth ^ ~known, prediction | ~known, known), UNGRADED)
    assert changed == pytest.approx(expected, nan_ok=True)


def test_specificity_counts_known_background_only() -> None:
    known = EMPTY.copy()
    known[:2] = True
    prediction = EMPTY.copy()
    prediction[0, :4] = True
    assert Pair(EMPTY, prediction, known).confusion == (0, 4, 0, 12)


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 1.0, 1.0)])
def test_a_spacing_for_other_axes_is_refused(spacing: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="spacing"):
        Pair(EMPTY, FULL, spacing=spacing)


def test_an_unknown_metric_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(MedsegError, match=r"--metrics hd59: .*'hd95'"):
        metrics_named(["dice", "hd59"])


def test_dice_comes_first_and_nothing_twice() -> None:
    assert metrics_named(["nsd", "iou", "nsd"]) == ("dice", "nsd", "iou")


@pytest.mark.parametrize("name", GRADED)
def test_certain_and_right_probabilities_have_the_best_value(name: str) -> None:
    truth = np.zeros((12, 16), bool)
    truth[3:9, 4:12] = True
    pair = Pair(truth, truth, probability=truth.astype(np.float64))
    assert measure(pair, [name])[name] == pytest.approx(METRICS[name].best, abs=0.01)


@pytest.mark.parametrize("name", GRADED)
def test_metrics_of_probabilities_need_them(name: str) -> None:
    with pytest.raises(ValueError, match="no probabilities"):
        measure(Pair(ONE_PIXEL, ONE_PIXEL), [name])


@pytest.mark.parametrize("name", ["roc_auc", "pr_auc"])
def test_curves_without_a_structure_are_left_out_under_every_policy(name: str) -> None:
    pair = Pair(EMPTY, EMPTY, probability=np.full(EMPTY.shape, 0.1))
    assert all(
        math.isnan(measure(pair, [name], empty_policy=policy)[name]) for policy in EMPTY_POLICIES
    )
