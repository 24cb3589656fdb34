import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from medseg.metrics.statistics import Interval, bootstrap_mean


def test_the_interval_is_the_one_scipy_gives_for_the_same_draws() -> None:
    values = np.random.default_rng(3).beta(8, 2, 66)
    ours = bootstrap_mean(values, confidence=0.9, resamples=999, seed=5)
    scipys = bootstrap(
        (values,),
        np.mean,
        confidence_level=0.9,
        n_resamples=999,
        method="BCa",
        random_state=np.random.default_rng(5),
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((scipys.low, scipys.high), abs=1e-12)
    assert ours.mean == pytest.approx(values.mean())


def test_a_large_normal_sample_gives_the_textbook_interval() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.1, 2000)
    found = bootstrap_mean(values)
    half = 1.96 * values.std(ddof=1) / math.sqrt(2000)
    assert (found.low, found.high) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=0.05 * half
    )


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    draws = np.random.default_rng(1).beta(5, 2, (200, 40))
    covered = 0
    for sample in draws:
        found = bootstrap_mean(sample, resamples=499)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 5 / 7 <= found.high
    assert 180 <= covered <= 199


def test_undefined_values_are_skipped_and_counted() -> None:
    found = bootstrap_mean([0.2, math.nan, 0.4, math.nan])
    assert (found.mean, found.n, found.skipped) == (pytest.approx(0.3), 2, 2)


def test_one_case_has_a_mean_but_no_interval() -> None:
    assert bootstrap_mean([0.7]) == Interval(0.7, None, None, 1, 0)


@pytest.mark.parametrize("values", [[], [math.nan, math.nan]])
def test_no_defined_value_has_no_mean(values: list[float]) -> None:
    assert bootstrap_mean(values) == Interval(None, None, None, 0, len(values))


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert bootstrap_mean([0.1] * 30) == Interval(0.1, 0.1, 0.1, 30, 0)


def test_the_seed_decides_the_interval() -> None:
    values = np.random.default_rng(2).random(20)
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([0.0, 0.3, 1.0, 1 - 1e-16, math.nan]), max_size=12))
def test_bounds_exist_from_two_values_on_and_lie_within_the_values(values: list[float]) -> None:
    found = bootstrap_mean(values, resamples=199)
    kept = [value for value in values if not math.isnan(value)]
    assert found.n + found.skipped == len(values)
    if len(kept) < 2:
        assert found.low is None
        assert found.high is None
    else:
        assert found.low is not None
        assert found.high is not None
        assert min(kept) <= found.low + 1e-12
        assert found.low <= found.high
        assert found.high <= max(kept) + 1e-12
