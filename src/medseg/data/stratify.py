"""Bringing the parts of a split nearer to the whole: which classes they show, and how large."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

_SIZE_BINS = 4
_SLACK = 0.01
_PARTNERS = 256
_MOST_TRIALS = 20_000
_MISSING = 100.0

Profiles = NDArray[np.float64]


def profiles(groups: Sequence[Iterable[str]], pixels: Mapping[str, Sequence[int]]) -> Profiles:
    """What each group shows, as numbers of cases that add up.

    Args:
        groups: the case ids of each group.
        pixels: case id to the mask pixels of each class, background first; others are left out.

    Returns:
        (groups, K - 1 + 5): the cases that show each foreground class; then those whose
        foreground is empty, and those in each quarter of the shares of foreground.
    """
    counts = {case: np.asarray(each, np.float64) for case, each in pixels.items() if sum(each)}
    classes = max((len(each) for each in counts.values()), default=1)
    shares = {case: 1 - each[0] / each.sum() for case, each in counts.items()}
    present = [share for share in shares.values() if share > 0]
    quarters = np.linspace(0, 1, _SIZE_BINS + 1)[1:-1]
    edges = np.quantile(present, quarters) if present else quarters
    table = np.zeros((len(groups), classes - 1 + 1 + _SIZE_BINS))
    for row, group in zip(table, groups, strict=True):
        for case in group:
            if case in counts:
                row[: classes - 1] += counts[case][1:] > 0
                size = np.searchsorted(edges, shares[case], side="right") + 1
                row[classes - 1 + (size if shares[case] > 0 else 0)] += 1
    return table


def imbalance(owner: NDArray[np.int64], table: Profiles, shares: Sequence[float]) -> float:
    """How far the parts are from the whole: the sum of (found - due)^2 / due over all entries.

    Args:
        owner: (groups,) the part of each group.
        table: of :func:`profiles`.
        shares: of each part; parts without a share do not count.
    """
    found, due = _found_and_due(owner, table, shares)
    return float(_distance(found, due, np.zeros(due.shape, bool)).sum())


def balance(
    owner: NDArray[np.int64],
    weights: NDArray[np.int64],
    table: Profiles,
    shares: Sequence[float],
) -> NDArray[np.int64]:
    """Swap groups between parts while that brings their profiles nearer to the whole.

    A swap is taken when it lowers :func:`imbalance`. No part gets further from its share of the
    weight than the furthest was before, or 1 % of the whole. Parts keep their number of groups. A
    class shown by at least twice as many groups as there are parts is in every part.

    Args:
        owner: (groups,) the part of each group to begin with.
        weights: (groups,) the cases of each group.
        table: of :func:`profiles`.
        shares: of each part.

    Returns:
        The new ``owner``; the same input gives the same.
    """
    owner = owner.copy()
    found, due = _found_and_due(owner, table, shares)
    total = weights.sum()
    wanted = np.asarray(shares) / sum(shares) * total
    held = np.bincount(owner, weights, minlength=len(shares))
    slack = max(np.abs(held - wanted).max(), _SLACK * total)
    used = due.any(axis=1)
    needed = np.zeros(due.shape, bool)
    classes = table[:, : -1 - _SIZE_BINS]
    needed[:, : classes.shape[1]] = np.count_nonzero(classes, axis=0) >= 2 * used.sum()
    needed[~used] = False
    largest = int(np.argmax(wanted))
    movable = [int(group) for group in np.flatnonzero(owner != largest)]
    chance = random.Random(len(owner))
    left, improved = _MOST_TRIALS, True
    while improved and left > 0:
        improved = False
        for first in movable:
            mine = owner[first]
            others = np.flatnonzero(owner != mine)
            if len(others) > _PARTNERS:
                others = np.sort(others[chance.sample(range(len(others)), _PARTNERS)])
            theirs = owner[others]
            change = table[others] - table[first]
            before = _distance(found, due, needed)
            gain = before[mine] + before[theirs]
            gain -= _distance(found[mine] + change, due[mine], needed[mine])
            gain -= _distance(found[theirs] - change, due[theirs], needed[theirs])
            shift = weights[others] - weights[first]
            too_far = np.abs(held[mine] + shift - wanted[mine]) > slack
            too_far |= np.abs(held[theirs] - shift - wanted[theirs]) > slack
            gain[too_far] = 0
            best = int(np.argmax(gain)) if len(gain) else 0
            left -= 1
            if len(gain) and gain[best] > 1e-9:
                second, part = others[best], theirs[best]
                found[mine] += change[best]
                found[part] -= change[best]
                held[mine] += shift[best]
                held[part] -= shift[best]
                owner[first], owner[second] = part, mine
                improved = True
        movable = [int(group) for group in np.flatnonzero(owner != largest)]
    return owner


def _found_and_due(
    owner: NDArray[np.int64], table: Profiles, shares: Sequence[float]
) -> tuple[Profiles, Profiles]:
    """(parts, features): what each part holds, and what its share of the whole is."""
    found = np.zeros((len(shares), table.shape[1]))
    np.add.at(found, owner, table)
    due = np.outer(np.asarray(shares) / sum(shares), table.sum(axis=0))
    return found, due


def _distance(found: Profiles, due: Profiles, needed: NDArray[np.bool_]) -> Profiles:
    """(...,) from (..., features)."""
    squared = np.where(due > 0, (found - due) ** 2 / np.maximum(due, 1e-12), 0)
    distance: Profiles = (squared + _MISSING * (needed & (found < 0.5))).sum(axis=-1)
    return distance
