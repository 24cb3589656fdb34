from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from medseg.metrics.probability import (
    Bounded,
    Tally,
    average_precision,
    brier_score,
    expected_calibration_error,
    one_vs_rest,
    reliability,
    roc_auc,
)

Region = NDArray[np.bool_]
Map = NDArray[np.float64]

METRICS = (roc_auc, average_precision, brier_score, expected_calibration_error)

regions = arrays(np.bool_, 24)
# Few values, so that there are ties; and values anywhere, also beyond what log odds tell apart.
coarse = arrays(np.int64, 24, elements=st.integers(0, 6)).map(lambda values: values / 6)
fine = arrays(np.float64, 24, elements=st.floats(0, 1))
maps = coarse | fine


def sines() -> tuple[Region, Map]:
    n = np.arange(400)
    wave = np.sin(n * 0.37) ** 2 * 0.8 + 0.1 * np.cos(n * 1.7) + 0.1
    truth = np.sin(n * 0.41 + 0.3) ** 2 * 0.7 + 0.3 * np.cos(n * 3.1) > 0.45
    return truth, np.clip(np.round(wave * 50) / 50, 0, 1)


def test_numbers_agree_with_scikit_learn() -> None:
    truth, probability = sines()
    assert roc_auc(truth, probability) == pytest.approx(0.440603909548009, abs=1e-12)
    assert average_precision(truth, probability) == pytest.approx(0.36425240873562464, abs=1e-12)
    assert brier_score(truth, probability) == pytest.approx(0.36426200000000003, abs=1e-12)


def test_each_class_against_the_rest_agrees_with_scikit_learn() -> None:
    _, p = sines()
    stack = np.stack([p, 1 - p, p * p])
    classes = (np.arange(400) * 7 // 11) % 3
    found = one_vs_rest(roc_auc, classes, stack / stack.sum(axis=0))
    assert found == pytest.approx(
        (0.49322466614296934, 0.5104365391089665, 0.5173422659430122), abs=1e-12
    )


# A second implementation, pixel by pixel.


@given(regions, maps)
@settings(max_examples=60, deadline=None)
def test_roc_auc_is_the_chance_to_rank_a_foreground_pixel_higher(
    truth: Region, probability: Map
) -> None:
    assume(truth.any() and not truth.all())
    pairs = [(a, b) for a in probability[truth] for b in probability[~truth]]
    won = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs)
    assert roc_auc(truth, probability) == pytest.approx(won / len(pairs))


@given(regions, maps)
@settings(max_examples=60, deadline=None)
def test_average_precision_is_the_area_below_the_steps_of_the_curve(
    truth: Region, probability: Map
) -> None:
    assume(truth.any() and not truth.all())
    area, before = 0.0, 0.0
    for threshold in sorted(set(probability.tolist()), reverse=True):
        claimed = probability >= threshold
        recall = truth[claimed].sum() / truth.sum()
        area += (recall - before) * truth[claimed].mean()
        before = recall
    assert average_precision(truth, probability) == pytest.approx(area)


@given(regions, maps, st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_the_calibration_error_is_the_weighted_gap_of_the_bins(
    truth: Region, probability: Map, bins: int
) -> None:
    error = 0.0
    for index in range(bins):
        low, high = index / bins, (index + 1) / bins
        scaled = probability * bins
        here = (scaled > index) & (scaled <= index + 1) | ((scaled == 0) & (index == 0))
        if here.any():
            assert low - 1e-12 <= probability[here].mean() <= high + 1e-12
            error += here.mean() * abs(truth[here].mean() - probability[here].mean())
    assert expected_calibration_error(truth, probability, bins=bins) == pytest.approx(error)


def test_a_reliability_diagram_has_a_bar_for_each_bin_with_pixels() -> None:
    truth = np.array([[0, 1, 1], [1, 0, 1]])
    probability = np.array([[0.0, 0.25, 0.2], [1.0, 0.8, 0.9]])
    found = reliability(truth, probability, bins=4)
    assert found.counts.tolist() == [3, 0, 0, 3]
    np.testing.assert_allclose(found.confidence, [0.15, np.nan, np.nan, 0.9])
    np.testing.assert_allclose(found.frequency, [2 / 3, np.nan, np.nan, 2 / 3])
    assert found.expected_error == pytest.approx((2 / 3 - 0.15 + 0.9 - 2 / 3) / 2)


@given(regions)
@settings(max_examples=30, deadline=None)
def test_a_map_that_is_the_truth_is_perfect(truth: Region) -> None:
    assert (brier_score(truth, truth), expected_calibration_error(truth, truth)) == (0, 0)
    if truth.any() and not truth.all():
        assert roc_auc(truth, truth) == average_precision(truth, truth) == 1
        assert roc_auc(truth, ~truth) == 0


def test_a_constant_map_ranks_by_chance() -> None:
    truth = np.arange(10) < 3
    assert roc_auc(truth, np.full(10, 0.3)) == 0.5
    assert average_precision(truth, np.full(10, 0.3)) == pytest.approx(0.3)
    assert expected_calibration_error(truth, np.full(10, 0.3)) == pytest.approx(0)
    assert brier_score(truth, np.full(10, 0.3)) == pytest.approx(0.3 * 0.7)


@given(regions, coarse)
@settings(max_examples=40, deadline=None)
def test_ranks_do_not_depend_on_how_sure_a_map_is(truth: Region, probability: Map) -> None:
    for metric in (roc_auc, average_precision):
        squared = metric(truth, probability**2)
        assert metric(truth, probability) == pytest.approx(squared, nan_ok=True)


@pytest.mark.parametrize("kind", [0, 1])
def test_ranks_are_undefined_where_all_pixels_are_of_one_kind(kind: int) -> None:
    truth, probability = np.full(4, kind), np.array([0.1, 0.2, 0.3, 0.4])
    tally = Tally()
    tally.add(truth, probability)
    assert math.isnan(roc_auc(truth, probability))
    assert math.isnan(average_precision(truth, probability))
    assert math.isnan(tally.roc_auc().value)
    assert math.isnan(tally.average_precision().value)
    assert brier_score(truth, probability) > 0


def test_without_pixels_nothing_is_defined() -> None:
    assert all(math.isnan(metric(np.zeros(0), np.zeros(0))) for metric in METRICS)
    assert math.isnan(Tally().brier_score())
    assert math.isnan(Tally().expected_calibration_error())


def within(bounded: Bounded, exact: float) -> bool:
    return bounded.low - 1e-12 <= min(exact, bounded.value) and (
        max(exact, bounded.value) <= bounded.high + 1e-12
    )


@given(st.lists(st.tuples(regions, maps), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_a_tally_of_images_bounds_the_exact_numbers_of_all_their_pixels(
    images: list[tuple[Region, Map]],
) -> None:
    tally = Tally()
    for truth, probability in images:
        tally.add(truth, probability)
    together = np.concatenate([t for t, _ in images]), np.concatenate([p for _, p in images])
    assert tally.pixels == together[0].size
    assert tally.brier_score() == pytest.approx(brier_score(*together))
    exact = expected_calibration_error(*together)
    assert tally.expected_calibration_error() == pytest.approx(exact)
    if together[0].any() and not together[0].all():
        assert within(tally.roc_auc(), roc_auc(*together))
        assert within(tally.average_precision(), average_precision(*together))


def test_a_tally_is_close_where_probabilities_are_spread() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(20_000) < 0.2
    probability = 1 / (1 + np.exp(-rng.normal(np.where(truth, 1, -2), 2)))
    tally = Tally()
    tally.add(truth, probability)
    for bounded, metric in (
        (tally.roc_auc(), roc_auc),
        (tally.average_precision(), average_precision),
    ):
        assert bounded.high - bounded.low < 0.003
        assert bounded.value == pytest.approx(metric(truth, probability), abs=5e-4)


@given(regions, maps, regions, maps)
@settings(max_examples=20, deadline=None)
def test_tallies_add_up(t1: Region, p1: Map, t2: Region, p2: Map) -> None:
    one, other, both = Tally(), Tally(), Tally()
    one.add(t1, p1)
    other.add(t2, p2)
    both.add(t1, p1)
    both.add(t2, p2)
    found = one + other
    assert found.roc_auc() == pytest.approx(both.roc_auc(), nan_ok=True)
    assert found.brier_score() == pytest.approx(both.brier_score())
    assert found.reliability().counts.tolist() == both.reliability().counts.tolist()


def test_the_brier_scores_of_all_classes_add_up_to_briers_own() -> None:
    rng = np.random.default_rng(1)
    classes = rng.integers(0, 3, (4, 5))
    probabilities = rng.dirichlet([1, 1, 1], (4, 5)).transpose(2, 0, 1)
    expected = ((probabilities - np.eye(3)[classes].transpose(2, 0, 1)) ** 2).sum(axis=0).mean()
    assert sum(one_vs_rest(brier_score, classes, probabilities)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("truth", "probability", "found"),
    [
        (np.zeros(2), np.zeros(3), "differ in shape"),
        (np.zeros(2), np.array([0, 1.5]), "not 0 to 1.5"),
        (np.zeros(2), np.array([0, -3]), "not -3 to 0"),
        (np.zeros(2), np.array([0, math.nan]), "not nan to nan"),
    ],
)
def test_what_is_no_probability_is_refused(truth: Map, probability: Map, found: str) -> None:
    for metric in (*METRICS, Tally().add):
        with pytest.raises(ValueError, match=found):
            metric(truth, probability)


@pytest.mark.parametrize(
    ("classes", "found"), [(np.zeros(4, int), "do not fit"), (np.full(5, 3), "indices 3 to 3")]
)
def test_class_indices_that_do_not_fit_are_refused(classes: Map, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        one_vs_rest(roc_auc, classes, np.full((3, 5), 1 / 3))
