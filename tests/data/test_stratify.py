from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medseg.data.case import Case
from medseg.data.source import File
from medseg.data.splits import make_split
from medseg.data.stratify import balance, imbalance, off_by, profiles

SHARES = (0.8, 0.1, 0.1)


def dealt(groups: int, seed: int = 0) -> NDArray[np.int64]:
    owner = np.repeat([0, 1, 2], [groups - 2 * (groups // 10), groups // 10, groups // 10])
    return np.random.default_rng(seed).permutation(owner)


def test_a_profile_counts_cases_by_class_and_by_size() -> None:
    pixels = {"a": (90, 10, 0), "b": (50, 25, 25), "c": (100, 0, 0), "d": (0, 0, 100)}
    table = profiles([["a", "c"], ["b", "d"]], pixels)
    # With class 1, with class 2; empty; then quarters of the sizes 0.1, 0.5 and 1; all.
    assert table[:, :3].tolist() == [[1, 0, 1], [1, 2, 0]]
    assert table[:, 3:].tolist() == [[1, 0, 0, 0, 2], [0, 0, 1, 1, 2]]


def test_parts_that_mirror_the_whole_have_no_imbalance() -> None:
    table = np.hstack([np.tile(np.eye(2), (10, 1)), np.zeros((20, 5)), np.ones((20, 1))])
    assert imbalance(np.arange(20) // 2 % 2, table, (0.5, 0.5)) == 0
    assert imbalance(np.arange(20) % 2, table, (0.5, 0.5)) > 0


def test_a_class_of_every_eighth_case_gets_its_share_of_every_part() -> None:
    pixels = {str(i): (50, 50, 0) if i % 8 else (50, 0, 50) for i in range(400)}
    table = profiles([[case] for case in pixels], pixels)
    owner = balance(dealt(400), table, SHARES, 0)
    assert [int(table[owner == part, 1].sum()) for part in range(3)] == [40, 5, 5]


def test_a_class_of_six_patients_is_in_all_three_parts() -> None:
    pixels = {str(i): (50, 50, 0) if i >= 6 else (50, 0, 50) for i in range(300)}
    table = profiles([[case] for case in pixels], pixels)
    for seed in range(5):
        owner = balance(dealt(300, seed), table, SHARES, 0)
        assert all(table[owner == part, 1].sum() >= 1 for part in range(3))


@settings(deadline=None)
@given(data=st.data(), groups=st.integers(3, 60), seed=st.integers(0, 99))
def test_swapping_never_makes_it_worse_and_keeps_the_sizes(
    data: st.DataObject, groups: int, seed: int
) -> None:
    chance = np.random.default_rng(seed)
    weights = chance.integers(1, 6, groups)
    cases = [[f"{group}/{i}" for i in range(weight)] for group, weight in enumerate(weights)]
    classes = data.draw(st.integers(2, 5))
    pixels = {
        case: tuple(chance.integers(0, 3, classes) * chance.integers(0, 50, classes))
        for group in cases
        for case in group
    }
    table = profiles(cases, pixels)
    before = np.concatenate([[0, 1, 2], chance.integers(0, 3, groups - 3)])
    slack = data.draw(st.floats(0, 5))
    after = balance(before, table, SHARES, slack)
    assert Counter(after.tolist()) == Counter(before.tolist())
    assert off_by(after, table, SHARES) <= max(off_by(before, table, SHARES), slack) + 1e-9
    shown = table[:, :-6][:, np.count_nonzero(table[:, :-6], axis=0) >= 6]
    missing = [
        sum(int((shown[owner == part].sum(axis=0) == 0).sum()) for part in range(3))
        for owner in (before, after)
    ]
    assert missing[1] <= missing[0]
    if missing[1] == missing[0]:
        assert imbalance(after, table, SHARES) <= imbalance(before, table, SHARES) + 1e-9
    assert balance(before, table, SHARES, slack).tolist() == after.tolist()


def test_rare_classes_come_nearer_to_their_share_than_by_dealing_alone() -> None:
    """Patients with several slices each, of whom one in ten has a lesion of very uneven size."""
    chance = random.Random(0)
    cases, pixels = [], {}
    for patient in range(120):
        ill = chance.random() < 0.1
        for slice_ in range(chance.randint(3, 9)):
            name = f"{patient}/{slice_}"
            cases.append(Case(name, File(Path("i")), File(Path("m")), str(patient)))
            size = int(1000 * chance.random() ** 4) if ill else 0
            pixels[name] = (10_000 - size - 500, 500, size)
    whole = np.mean([each[2] > 0 for each in pixels.values()])

    def worst(seed: int, *, stratified: bool) -> float:
        split = make_split(cases, pixels=pixels if stratified else None, seed=seed)
        rates = [
            np.mean([pixels[case][2] > 0 for case, where in split.items() if where == part])
            for part in ("val", "test")
        ]
        return float(max(abs(rate - whole) for rate in rates))

    plain = [worst(seed, stratified=False) for seed in range(10)]
    stratified = [worst(seed, stratified=True) for seed in range(10)]
    assert np.mean(stratified) < np.mean(plain) / 3
    assert max(stratified) < 0.03
