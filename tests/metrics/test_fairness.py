from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.metrics.fairness import Equity, equity, equity_scaled
from medseg.metrics.statistics import bootstrap_mean

shares = st.floats(0, 1)
groups = st.lists(shares, min_size=1, max_size=6)


def compare(
    values: list[float], names: list[str | None], patients: list[str | None] | None = None
) -> Equity:
    return equity(values, names, attribute="sex", metric="dice", patients=patients)


def test_two_groups_around_the_mean_have_the_score_of_the_definition() -> None:
    assert equity_scaled(0.85, [0.8, 0.9]) == pytest.approx(0.85 / 1.1)


@given(overall=shares, count=st.integers(1, 6), alpha=st.floats(0, 5))
def test_groups_that_score_alike_keep_the_score(overall: float, count: int, alpha: float) -> None:
    assert equity_scaled(overall, [overall] * count, alpha=alpha) == overall


@given(overall=shares, of=groups)
def test_differences_only_ever_cost(overall: float, of: list[float]) -> None:
    assert equity_scaled(overall, of) <= overall


@given(overall=shares, of=groups, alphas=st.tuples(st.floats(0, 5), st.floats(0, 5)))
def test_the_more_differences_count_the_lower_the_score(
    overall: float, of: list[float], alphas: tuple[float, float]
) -> None:
    less, more = sorted(alphas)
    assert equity_scaled(overall, of, alpha=more) <= equity_scaled(overall, of, alpha=less)
    assert equity_scaled(overall, of, alpha=0) == overall


# Computed with equity_scaled_perf of github.com/Harvard-Ophthalmology-AI-Lab/FairSeg.
def test_cases_of_two_groups_have_the_official_score() -> None:
    found = compare([0.8, 0.82, 0.7, 0.9, 0.95], ["f", "f", "f", "m", "m"])
    assert found.overall == pytest.approx(0.834)
    assert found.equity_scaled == pytest.approx(0.7241678726483357)


def test_the_worst_group_is_named_with_its_distance_from_the_best() -> None:
    found = compare([0.8, 0.6, 0.9, 0.7], ["a", "b", "c", "b"])
    assert (found.worst, found.best) == ("b", "c")
    assert found.gap == pytest.approx(0.25)
    assert {name: mean.n for name, mean in found.groups.items()} == {"a": 1, "b": 2, "c": 1}
    assert found.small == ("a", "b", "c")


def test_cases_of_unknown_group_are_counted_and_count_nowhere() -> None:
    found = compare([0.8, 0.6, 0.0], ["a", "b", None])
    assert found.unknown == 1
    assert found.overall == pytest.approx(0.7)
    assert found.equity_scaled == pytest.approx(0.7 / 1.2)


def test_undefined_values_are_left_out_of_their_group() -> None:
    found = compare([0.8, math.nan, 0.6, math.nan], ["a", "a", "b", "c"])
    assert found.groups["a"].mean == 0.8
    assert found.groups["a"].skipped == 1
    assert found.groups["c"].mean is None
    assert (found.worst, found.overall) == ("b", pytest.approx(0.7))


def test_one_group_is_not_compared() -> None:
    found = compare([0.8, 0.6], ["a", None])
    assert found.groups["a"].mean == 0.8
    assert (found.equity_scaled, found.worst, found.gap, found.p) == (None, None, None, None)


def test_the_intervals_of_groups_are_those_of_their_cases() -> None:
    values = np.random.default_rng(0).uniform(size=20).tolist()
    patients: list[str | None] = [f"p{i // 2}" for i in range(20)]
    names: list[str | None] = ["a"] * 12 + ["b"] * 8
    found = compare(values, names, patients)
    assert found.groups["a"] == bootstrap_mean(values[:12], groups=patients[:12])
    assert found.groups["b"].groups == 4


def test_p_is_the_share_of_groupings_that_differ_as_much() -> None:
    # Of the 6 ways to halve four cases, 2 are as far apart.
    found = compare([0, 0, 1, 1], ["a", "a", "b", "b"])
    assert found.p == pytest.approx(1 / 3, abs=0.03)


def test_groups_that_score_alike_differ_by_chance() -> None:
    assert compare([0.5, 0.7, 0.7, 0.5], ["a", "a", "b", "b"]).p == 1


def test_patients_are_exchanged_as_a_whole() -> None:
    # Eight cases, but of four patients: no grouping of two and two is rarer than 1 in 3.
    patients: list[str | None] = [f"p{i // 2}" for i in range(8)]
    names: list[str | None] = ["a"] * 4 + ["b"] * 4
    values = [0.0] * 4 + [1.0] * 4
    assert compare(values, names, patients).p == pytest.approx(1 / 3, abs=0.03)
    assert compare(values, names).p == pytest.approx(2 / 70, abs=0.01)


def test_cases_are_exchanged_where_a_patient_has_some_in_two_groups() -> None:
    patients: list[str | None] = ["p", "q"] * 4
    names: list[str | None] = ["a"] * 4 + ["b"] * 4
    values = [0.0] * 4 + [1.0] * 4
    assert compare(values, names, patients).p == pytest.approx(2 / 70, abs=0.01)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_the_order_of_cases_changes_nothing_but_rounding(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.uniform(size=12)
    names = np.array(list("aabbbbcccccc"))
    order = random.permutation(12)
    first, second = (
        compare(values[places].tolist(), names[places].tolist())
        for places in (np.arange(12), order)
    )
    assert first.equity_scaled == pytest.approx(second.equity_scaled)
    assert first.worst == second.worst
