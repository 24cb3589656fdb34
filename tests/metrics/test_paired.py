from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from medseg.metrics.paired import (
    cases_needed,
    cliques,
    critical_difference,
    friedman_test,
    holm,
    mean_ranks,
    permutation_test,
    rank_biserial,
    unit_sd,
    variation,
    wilcoxon_test,
)
from medseg.metrics.statistics import unit_sums

differences = st.lists(st.integers(-20, 20).map(lambda value: value / 8), min_size=2, max_size=9)


def test_three_differences_have_the_p_value_counted_by_hand() -> None:
    # Sums of +-1 +-2 +-3: 6, 4, 2, 0, 0, -2, -4, -6.
    assert permutation_test(np.array([1.0, 2.0, 3.0])) == 2 / 8
    assert permutation_test(np.array([-1.0, 2.0, 3.0])) == 4 / 8
    assert permutation_test(np.array([1.0, 2.0, -3.0])) == 1


@settings(max_examples=30, deadline=None)
@given(differences)
def test_the_exact_test_is_scipys_permutation_test(values: list[float]) -> None:
    found = permutation_test(np.array(values))
    expected = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert found == pytest.approx(expected)


def test_many_random_sign_patterns_come_close_to_all() -> None:
    values = np.random.default_rng(0).normal(0.3, 1, 14)
    exact = permutation_test(values)
    assert 0.05 < exact < 0.95
    drawn = permutation_test(values, exact_units=0, draws=20_000)
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 20_000))


def test_the_seed_decides_the_random_sign_patterns() -> None:
    values = np.random.default_rng(0).normal(0.2, 1, 40)
    assert permutation_test(values, seed=1) == permutation_test(values, seed=1)
    assert permutation_test(values, seed=1) != permutation_test(values, seed=2)


def test_random_sign_patterns_never_give_a_p_of_zero() -> None:
    assert permutation_test(np.ones(40), draws=99) == 1 / 100


def test_differences_of_zero_show_nothing() -> None:
    for count in (0, 3, 40):
        zeros = np.zeros(count)
        assert permutation_test(zeros) == 1
        assert wilcoxon_test(zeros) == 1
        assert rank_biserial(zeros) == 0


@settings(max_examples=30, deadline=None)
@given(differences)
def test_a_test_does_not_depend_on_the_direction_of_the_difference(values: list[float]) -> None:
    apart = np.array(values)
    assert permutation_test(apart) == permutation_test(-apart)
    assert wilcoxon_test(apart) == pytest.approx(wilcoxon_test(-apart))
    assert rank_biserial(apart) == pytest.approx(-rank_biserial(-apart))


def test_under_no_difference_p_is_below_alpha_about_as_often_as_it_says() -> None:
    samples = np.random.default_rng(0).normal(0, 1, (400, 10))
    rejected = sum(permutation_test(sample) <= 0.05 for sample in samples)
    # Binomial with 400 and 0.05: mean 20, standard deviation 4.4.
    assert 8 <= rejected <= 33


def test_wilcoxon_is_scipys_and_leaves_zeros_out() -> None:
    values = np.array([0.3, -0.1, 0.25, 0.0, 0.7, 0.6, -0.2, 0.0, 0.9])
    assert wilcoxon_test(values) == stats.wilcoxon(values[values != 0]).pvalue


def test_differences_that_are_equal_but_for_rounding_tie() -> None:
    assert rank_biserial(np.array([0.3 - 0.1, -(0.5 - 0.3)])) == 0
    assert permutation_test(np.array([0.1, 0.2, -0.3])) == 1


def test_holm_gives_the_textbook_example() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, never below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_never_lowers_a_p(values: list[float]) -> None:
    adjusted = holm(values)
    for one, other in itertools.permutations(range(len(values)), 2):
        assert values[one] > values[other] or adjusted[one] <= adjusted[other]
    assert all(p <= q <= 1 for p, q in zip(values, adjusted, strict=True))


def test_the_rank_biserial_correlation_is_the_difference_of_the_rank_shares() -> None:
    # Ranks 1, 2, 3, 4 of which 1 speaks against: (9 - 1) / 10.
    assert rank_biserial(np.array([-0.1, 0.2, 0.3, 0.4])) == pytest.approx(0.8)
    assert rank_biserial(np.array([0.1, 0.2])) == 1


def test_without_patients_the_spread_of_units_is_the_sample_standard_deviation() -> None:
    values = np.random.default_rng(0).normal(0.1, 0.3, 20)
    assert unit_sd(values, np.ones(20)) == pytest.approx(values.std(ddof=1))


def test_doubling_every_case_within_its_patient_leaves_the_spread_of_units() -> None:
    values = np.random.default_rng(0).normal(0.1, 0.3, 20)
    sums, sizes = unit_sums(np.repeat(values, 2), np.repeat(np.arange(20), 2))
    assert unit_sd(sums, sizes) == pytest.approx(values.std(ddof=1))


def test_equal_differences_have_no_spread() -> None:
    assert unit_sd(np.full(7, 0.1), np.ones(7)) == 0
    assert math.isnan(unit_sd(np.array([0.1]), np.ones(1)))


@pytest.mark.parametrize("effect", [0.3, 0.5, 0.8, 1.2])
def test_the_number_of_cases_needed_is_that_of_the_noncentral_t_within_one(effect: float) -> None:
    def power(cases: int) -> float:
        limit = stats.t.ppf(0.975, cases - 1)
        shift = effect * math.sqrt(cases)
        upper, lower = (
            stats.nct.sf(limit, cases - 1, shift),
            stats.nct.cdf(-limit, cases - 1, shift),
        )
        return float(upper + lower)

    exact = next(cases for cases in itertools.count(3) if power(cases) >= 0.8)
    found = cases_needed(effect * 0.02, 0.02)
    assert found is not None
    assert abs(found - exact) <= 1


def test_with_the_number_of_cases_needed_the_difference_is_seen_four_times_in_five() -> None:
    needed = cases_needed(0.5, 1.0)
    assert needed == 34
    samples = np.random.default_rng(0).normal(0.5, 1, (4000, needed))
    seen = (stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05).mean()
    assert seen == pytest.approx(0.8, abs=0.025)


def test_no_number_of_cases_shows_a_difference_of_zero() -> None:
    assert cases_needed(0.0, 0.1) is None
    assert cases_needed(0.1, 0.0) == 2


def test_the_critical_difference_uses_the_published_q_table() -> None:
    # Demsar 2006, table 5(a), alpha 0.05.
    table = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
    for systems, q in enumerate(table, start=2):
        expected = q * math.sqrt(systems * (systems + 1) / (6 * 14))
        assert critical_difference(systems, 14) == pytest.approx(expected, rel=5e-4)


def test_the_friedman_test_is_scipys_and_one_where_all_tie() -> None:
    values = np.random.default_rng(0).normal(0, 1, (12, 4))
    assert friedman_test(values) == pytest.approx(stats.friedmanchisquare(*values.T).pvalue)
    assert friedman_test(np.ones((5, 3))) == 1


def test_ranks_are_averaged_and_shared_by_equal_values() -> None:
    values = np.array([[0.9, 0.5, 0.5], [0.8, 0.7, 0.1]])
    assert mean_ranks(values).tolist() == [1, 2.25, 2.75]


def test_groups_are_the_largest_and_none_is_within_another() -> None:
    assert cliques([1.0, 1.5, 2.4, 4.0], 1.0) == [(0, 1), (1, 2)]
    assert cliques([3.0, 1.0, 2.0], 5.0) == [(1, 2, 0)]
    assert cliques([1.0, 3.0], 1.0) == []


def test_variances_of_seeds_and_cases_are_found_again() -> None:
    rng = np.random.default_rng(0)
    seeds, cases = rng.normal(0, 0.3, (40, 1)), rng.normal(0, 0.5, (1, 400))
    found = variation(seeds + cases + rng.normal(0, 0.2, (40, 400)))
    assert found is not None
    assert found.seed_component == pytest.approx(0.09, rel=0.5)
    assert found.case_component == pytest.approx(0.25, rel=0.15)
    assert found.rest == pytest.approx(0.04, rel=0.05)


def test_a_shift_of_a_whole_seed_is_the_seeds_variance_alone() -> None:
    found = variation(np.array([[0.1, 0.5, 0.9], [0.3, 0.7, 1.1]]))
    assert found is not None
    assert found.seed_sd == pytest.approx(math.sqrt(0.02))
    assert found.case_sd == pytest.approx(0.4)
    assert found.rest == pytest.approx(0, abs=1e-15)
    assert found.seed_component == pytest.approx(0.02)
    assert found.case_component == pytest.approx(0.16)


@pytest.mark.parametrize("shape", [(1, 5), (3, 1), (2, 0)])
def test_a_single_seed_or_case_has_no_variation(shape: tuple[int, int]) -> None:
    assert variation(np.zeros(shape)) is None
