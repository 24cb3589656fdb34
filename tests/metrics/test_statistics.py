import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from medseg.metrics.statistics import Interval, Spread, bootstrap_mean, spread


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


def test_patients_of_one_case_each_give_scipys_interval() -> None:
    values = np.random.default_rng(3).beta(8, 2, 40)
    patients = [f"p{number}" for number in range(40)]
    found = bootstrap_mean(values, groups=patients, seed=5)
    assert found == bootstrap_mean(values, seed=5)
    assert found.groups is None


def test_repeating_each_patients_case_does_not_narrow_the_interval() -> None:
    values = np.random.default_rng(3).beta(8, 2, 30)
    once = bootstrap_mean(values)
    again = bootstrap_mean(np.repeat(values, 4), groups=[f"p{place // 4}" for place in range(120)])
    assert (again.low, again.high) == pytest.approx((once.low, once.high))
    assert (again.n, again.groups) == (120, 30)


def test_the_acceleration_of_unequal_patients_is_that_of_scipy_on_the_ratio_of_their_sums() -> None:
    rng = np.random.default_rng(4)
    sizes = rng.integers(1, 6, 25)
    units = np.repeat(np.arange(25), sizes)
    values = rng.beta(5, 2, units.size) * rng.beta(5, 2, 25)[units]
    sums = np.bincount(units, values)

    def ratio(total: np.ndarray, count: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(total.sum(axis=axis) / count.sum(axis=axis))

    scipys = bootstrap(
        (sums, sizes), ratio, paired=True, vectorized=True, n_resamples=4999, method="BCa",
        random_state=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    found = bootstrap_mean(values, groups=[str(unit) for unit in units])
    assert (found.low, found.high) == pytest.approx((scipys.low, scipys.high), abs=1e-12)


def test_cases_without_a_patient_stand_for_themselves() -> None:
    values = np.random.default_rng(3).beta(8, 2, 12)
    assert bootstrap_mean(values, groups=[None, ""] * 6) == bootstrap_mean(values)


def test_cases_of_a_single_patient_have_no_interval() -> None:
    found = bootstrap_mean([0.2, 0.4, 0.9], groups=["p"] * 3)
    assert found == Interval(pytest.approx(0.5), None, None, 3, 0, 1)


def test_a_patient_without_a_defined_value_is_not_counted() -> None:
    found = bootstrap_mean([0.2, 0.4, math.nan, 0.9], groups=["a", "a", "b", "c"])
    assert (found.n, found.skipped, found.groups) == (3, 1, 2)


def test_as_many_patients_as_values_are_asked_for() -> None:
    with pytest.raises(ValueError, match="2 groups for 3 values"):
        bootstrap_mean([0.1, 0.2, 0.3], groups=["a", "b"])


def test_the_spread_is_the_median_and_the_quartiles_of_what_is_defined() -> None:
    found = spread([4.0, math.nan, 1.0, 2.0, 3.0, 5.0])
    assert found == Spread(median=3.0, lower=2.0, upper=4.0)
    assert spread([math.nan]) is None


@pytest.mark.slow
def test_intervals_of_clustered_data_cover_the_mean_only_when_patients_are_resampled() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(40), rng.integers(1, 9, 40))
    groups = [str(patient) for patient in patients]
    covered = {"patients": 0, "cases": 0}
    trials = 400
    for _ in range(trials):
        values = rng.normal(0, 1, 40)[patients] + rng.normal(0, 0.5, patients.size)
        for name, by in (("patients", groups), ("cases", None)):
            found = bootstrap_mean(values, groups=by, resamples=999)
            assert found.low is not None
            assert found.high is not None
            covered[name] += found.low <= 0 <= found.high
    # Binomial with 400 and 0.95: standard deviation 1.1 %; BCa falls a little short at 40.
    assert 0.90 <= covered["patients"] / trials <= 0.98
    assert covered["cases"] / trials < 0.75
