"""Bringing the parts of a split nearer to the whole: which classes they show, and how large."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

_SIZE_BINS = 4
_OTHERS = _SIZE_BINS + 2
_RATIO = 10.0
_MISSING = 100.0
_SLACK = 0.01
_PARTNERS = 256
_MOST_TRIALS = 5_000

Profiles = NDArray[np.float64]


def profiles(groups: Sequence[Iterable[str]], pixels: Mapping[str, Sequence[int]]) -> Profiles:
    """What each group shows, as numbers of cases that add up.

    Args:
        groups: the ids of the labelled cases of each group.
        pixels: case id to the mask pixels of each class, background first.

    Returns:
        (groups, K - 1 + 6): the cases that show each foreground class; then those whose
        foreground is empty, those in each quarter of the shares of foreground, and all.
    """
    counts = {case: np.asarray(each, np.float64) for case, each in pixels.items() if sum(each)}
    classes = max((len(each) for each in counts.values()), default=1) - 1
    shares = {case: 1 - each[0] / each.sum() for case, each in counts.items()}
    present = [share for share in shares.values() if share > 0]
    quarters = np.linspace(0, 1, _SIZE_BINS + 1)[1:-1]
    edges = np.quantile(present, quarters) if present else quarters
    table = np.zeros((len(groups), classes + _OTHERS))
    for row, group in zip(table, groups, strict=True):
        for case in group:
            row[-1] += 1
            if case in counts:
                row[:classes] += counts[case][1:] > 0
                size = np.searchsorted(edges, shares[case], side="right") + 1
                row[classes + (size if shares[case] > 0 else 0)] += 1
    return table


def imbalance(owner: NDArray[np.int64], table: Profiles, shares: Sequence[float]) -> float:
    """How far the parts are from the whole.

    The sum of (found - due)^2 / due over parts and columns; the number of cases counts ten times.

    Args:
        owner: (groups,) the part of each group.
        table: of :func:`profiles`.
        shares: of each part; parts without a share do not count.
    """
    found, due = _found_and_due(owner, table, shares)
    return float(_distance(found, due, np.zeros(due.shape, bool)).sum())


def off_by(owner: NDArray[np.int64], table: Profiles, shares: Sequence[float]) -> float:
    """How many cases the worst part has too many or too few."""
    found, due = _found_and_due(owner, table, shares)
    return float(np.abs(found[:, -1] - due[:, -1]).max())


def allowance(owner: NDArray[np.int64], table: Profiles, shares: Sequence[float]) -> float:
    """:func:`off_by`, or 1 % of the cases when that is more."""
    return max(off_by(owner, table, shares), _SLACK * float(table[:, -1].sum()))


def balance(
    owner: NDArray[np.int64], table: Profiles, shares: Sequence[float], slack: float
) -> NDArray[np.int64]:
    """Swap groups between parts while that brings them nearer to the whole.

    A swap is taken when it lowers :func:`imbalance`; 256 others are tried for each group, and no
    more than 5,000 groups, which is enough where there are many. A class
    shown by at least twice as many groups as there are parts comes to be in every part. Parts
    keep their number of groups.

    Args:
        owner: (groups,) the part of each group to begin with.
        table: of :func:`profiles`.
        shares: of each part.
        slack: by how many cases a part may be off; one that is off by more may only get nearer.

    Returns:
        The new ``owner``; the same input gives the same.
    """
    owner = owner.copy()
    found, due = _found_and_due(owner, table, shares)
    used = due[:, -1] > 0
    needed = np.zeros(due.shape, bool)
    needed[:, :-_OTHERS] = np.count_nonzero(table[:, :-_OTHERS], axis=0) >= 2 * used.sum()
    needed[~used] = False
    largest = int(np.argmax(due[:, -1]))
    chance = random.Random(len(owner))
    left, improved = _MOST_TRIALS, True
    while improved and left > 0:
        improved = False
        for first in np.flatnonzero(owner != largest)[:left].tolist():
            left -= 1
            mine = owner[first]
            others = np.flatnonzero(owner != mine)
            if len(others) > _PARTNERS:
                others = np.sort(others[chance.sample(range(len(others)), _PARTNERS)])
            if not len(others):
                continue
            theirs = owner[others]
            change = table[others] - table[first]
            before = _distance(found, due, needed)
            after_mine = found[mine] + change
            after_theirs = found[theirs] - change
            gain = before[mine] + before[theirs]
            gain -= _distance(after_mine, due[mine], needed[mine])
            gain -= _distance(after_theirs, due[theirs], needed[theirs])
            off = np.abs(found[:, -1] - due[:, -1])
            for after, part in ((after_mine, mine), (after_theirs, theirs)):
                gain[np.abs(after[:, -1] - due[part, -1]) > np.maximum(off[part], slack)] = 0
            best = int(np.argmax(gain))
            if gain[best] > 1e-9:
                found[mine] += change[best]
                found[theirs[best]] -= change[best]
                owner[first], owner[others[best]] = theirs[best], mine
                improved = True
    return owner


def _found_and_due(
    owner: NDArray[np.int64], table: Profiles, shares: Sequence[float]
) -> tuple[Profiles, Profiles]:
    """(parts, columns): what each part holds, and what its share of the whole is."""
    found = np.zeros((len(shares), table.shape[1]))
    np.add.at(found, owner, table)
    due = np.outer(np.asarray(shares) / sum(shares), table.sum(axis=0))
    return found, due


def _distance(found: Profiles, due: Profiles, needed: NDArray[np.bool_]) -> Profiles:
    """(...,) from (..., columns)."""
    terms = np.where(due > 0, (found - due) ** 2 / np.maximum(due, 1e-12), 0)
    terms[..., -1] *= _RATIO
    distance: Profiles = (terms + _MISSING * (needed & (found < 0.5))).sum(axis=-1)
    return distance
