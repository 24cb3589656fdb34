"""Dividing cases into training, validation and test parts without leaks."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from medseg.data.case import SPLITS, Case, Split
from medseg.data.stratify import allowance, balance, off_by, profiles
from medseg.data.survey import Survey
from medseg.errors import DataError, plural

DEFAULT_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Division:
    """A dataset's usable cases, divided.

    Attributes:
        parts: case id to part, sorted by id.
        fold: which fold validates; None for a plain split.
        folds: how many there are.
    """

    parts: Mapping[str, Split]
    fold: int | None
    folds: int


@dataclass(frozen=True, slots=True)
class _Group:
    """Cases that stay together."""

    cases: tuple[Case, ...]

    @property
    def weight(self) -> int:
        """Labelled cases, which are what ratios count."""
        return sum(case.mask is not None for case in self.cases)


_Parts = dict[Split, list[_Group]]


class _Seen(TypedDict):
    """What a survey knows of its cases that matters to a split."""

    duplicates: Mapping[str, str]
    pixels: Mapping[str, Sequence[int]]


def divide(
    survey: Survey,
    *,
    ratios: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    fold: int | None = None,
    folds: int | None = None,
) -> Division:
    """Divide the usable cases of a dataset as :func:`make_split` does.

    Published folds are kept as they are: ``fold`` then names one of them. Without it the first
    validates, unless the cases have a published split besides.

    Args:
        survey: of the dataset.
        ratios: as in :func:`make_split`.
        seed: as in :func:`make_split`.
        fold: as in :func:`make_split`.
        folds: how many folds; None takes the published number, or else 5.

    Raises:
        DataError: as :func:`make_split`, or another number of folds than published.
    """
    published = survey.dataset.folds
    fold, count = choose_fold(published, survey.dataset.cases, fold, folds)
    if not published or fold is None:
        drawn = make_split(
            survey.usable, **_seen(survey), ratios=ratios, seed=seed, fold=fold, folds=count
        )
        return Division(drawn, fold, count)
    return Division(_published_fold(survey, fold, ratios, seed), fold, count)


def divide_all(
    survey: Survey,
    *,
    folds: int,
    ratios: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
) -> list[Division]:
    """:func:`divide` for every fold.

    Raises:
        DataError: as :func:`divide`.
    """
    published = survey.dataset.folds
    choose_fold(published, survey.dataset.cases, 0, folds)
    drawn = (
        [_published_fold(survey, fold, ratios, seed) for fold in range(folds)]
        if published
        else make_folds(survey.usable, **_seen(survey), ratios=ratios, seed=seed, folds=folds)
    )
    return [Division(parts, fold, folds) for fold, parts in enumerate(drawn)]


def _seen(survey: Survey) -> _Seen:
    pixels = {facts.id: facts.pixels for facts in survey.cases if facts.pixels}
    return {"duplicates": survey.clusters, "pixels": pixels}


def _published_fold(
    survey: Survey, fold: int, ratios: tuple[float, float, float], seed: int
) -> dict[str, Split]:
    parts = survey.dataset.folds[fold]
    cases = [replace(case, split=parts.get(case.id, case.split)) for case in survey.usable]
    return make_split(cases, **_seen(survey), ratios=ratios, seed=seed)


def choose_fold(
    published: Sequence[Mapping[str, Split]],
    cases: Iterable[Case],
    fold: int | None,
    folds: int | None,
) -> tuple[int | None, int]:
    """Which fold is meant, and of how many; no pixel needs to be read for it.

    Args:
        published: the dataset's folds; may be empty.
        cases: the dataset's cases.
        fold: what was asked for.
        folds: the number that was asked for; None takes the published one, or else 5.

    Raises:
        DataError: there is no such fold, or another number of folds is published.
    """
    if published and folds not in (None, len(published)):
        raise DataError(
            "folds",
            f"are {folds}, but the dataset publishes {len(published)}",
            "Leave the number of folds out",
        )
    count = len(published) or (DEFAULT_FOLDS if folds is None else folds)
    if (
        published
        and fold is None
        and not any(case.split is not None and case.id in published[0] for case in cases)
    ):
        fold = 0
    _check_fold(fold, count, least=1 if published else 2)
    return fold, count


def make_split(
    cases: Sequence[Case],
    *,
    duplicates: Mapping[str, str] | None = None,
    pixels: Mapping[str, Sequence[int]] | None = None,
    ratios: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    fold: int | None = None,
    folds: int = 5,
) -> dict[str, Split]:
    """Give every case to one part; the order of ``cases`` does not matter.

    Cases of one patient and cases with alike images form a group, and a group is never divided.
    Groups are shuffled, dealt, and swapped between parts so that the labelled cases come within
    1 % of ``ratios``, or as near as groups allow, and each part shows the same classes in the same
    sizes as the whole (:func:`medseg.data.stratify.balance`). No part with a ratio above 0 stays
    empty when there are three groups; two groups give a training and a validation part. Groups
    without any labelled case go to the training part.

    A published split is kept as it is: cases without a part follow their group, or else train. A
    missing validation part is drawn from the training part; a missing test part is not invented.

    Args:
        cases: labelled and unlabelled cases.
        duplicates: case id to what alike images share, e.g. a hash of their content.
        pixels: case id to the mask pixels of each class, background first.
        ratios: shares of train, val and test; they add up to 1.
        seed: of the shuffle.
        fold: which of ``folds`` (counted from 0) is the validation part. The test part is the
            same for each.
        folds: how many parts the cases outside the test part are cut into.

    Returns:
        Case id to part, sorted by id.

    Raises:
        DataError: fewer than two labelled cases or groups, or fewer groups than folds.
    """
    if fold is not None:
        _check_fold(fold, folds)
        drawn = make_folds(
            cases, duplicates=duplicates, pixels=pixels, ratios=ratios, seed=seed, folds=folds
        )
        return drawn[fold]
    parts = _parts(cases, duplicates or {}, pixels or {}, ratios, seed)
    if not parts["val"]:
        parts = _with_drawn_val(parts, ratios, pixels or {})
    return _by_case(parts)


def make_folds(
    cases: Sequence[Case],
    *,
    duplicates: Mapping[str, str] | None = None,
    pixels: Mapping[str, Sequence[int]] | None = None,
    ratios: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    folds: int = 5,
) -> list[dict[str, Split]]:
    """:func:`make_split` for every fold.

    Raises:
        DataError: as :func:`make_split`.
    """
    duplicates, pixels = duplicates or {}, pixels or {}
    parts = _parts(cases, duplicates, pixels, ratios, seed)
    # What is not for testing is cut anew: a patient may stand on both sides of its old parts.
    rest = [case for name in ("train", "val") for group in parts[name] for case in group.cases]
    groups = _shuffled(rest, duplicates, seed)
    labelled = [group for group in groups if group.weight]
    unlabelled = [group for group in groups if not group.weight]
    if len(labelled) < folds:
        raise DataError(
            "folds",
            f"{folds} are asked for, but only {len(labelled)} patients or images are left to cut",
            "Ask for fewer folds",
        )
    hands = _deal(labelled, [1.0] * folds, pixels)
    drawn = []
    for fold, val in enumerate(hands):
        train = [group for other, hand in enumerate(hands) if other != fold for group in hand]
        drawn.append(_by_case({"train": train + unlabelled, "val": val, "test": parts["test"]}))
    return drawn


def _parts(
    cases: Sequence[Case],
    duplicates: Mapping[str, str],
    pixels: Mapping[str, Sequence[int]],
    ratios: tuple[float, float, float],
    seed: int,
) -> _Parts:
    _check_ratios(ratios)
    labelled = sum(case.mask is not None for case in cases)
    if labelled < 2:
        raise DataError(
            "split",
            f"{plural(labelled, 'labelled case')} cannot be divided",
            "At least 2 are needed: one to train on and one to check with",
        )
    groups = _shuffled(cases, duplicates, seed)
    if any(case.split is not None for case in cases):
        return _published(groups)
    return _dealt(groups, ratios, pixels)


def _by_case(parts: _Parts) -> dict[str, Split]:
    split = {case.id: part for part in SPLITS for group in parts[part] for case in group.cases}
    return dict(sorted(split.items()))


def _check_ratios(ratios: tuple[float, float, float]) -> None:
    if len(ratios) != 3 or min(ratios) < 0 or ratios[0] == 0 or not math.isclose(sum(ratios), 1):
        raise DataError(
            "ratios",
            f"are {', '.join(map(str, ratios))}",
            "Give shares of train, val and test that add up to 1, with some for train",
        )


def _check_fold(fold: int | None, folds: int, least: int = 2) -> None:
    if fold is not None and folds < least:
        raise DataError("folds", f"are {folds}", f"There are at least {least}")
    if fold is not None and not 0 <= fold < folds:
        raise DataError("fold", f"is {fold} of {folds}", f"Folds are counted from 0 to {folds - 1}")


def _shuffled(cases: Sequence[Case], duplicates: Mapping[str, str], seed: int) -> list[_Group]:
    groups = _groups(cases, duplicates)
    random.Random(seed).shuffle(groups)
    return groups


def _groups(cases: Sequence[Case], duplicates: Mapping[str, str]) -> list[_Group]:
    """Cases united by patient and by image (union-find), in an order of their own."""
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for case in cases:
        if case.patient is not None:
            parent[root(("case", case.id))] = root(("patient", case.patient))
        if case.id in duplicates:
            parent[root(("case", case.id))] = root(("content", duplicates[case.id]))
    members: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: case.id):
        members[root(("case", case.id))].append(case)
    return [_Group(tuple(together)) for together in members.values()]


def _dealt(
    groups: list[_Group],
    ratios: tuple[float, float, float],
    pixels: Mapping[str, Sequence[int]],
) -> _Parts:
    labelled = [group for group in groups if group.weight]
    if len(labelled) < 2:
        raise DataError(
            "split",
            "all labelled cases belong to one patient or show the same image",
            "At least 2 patients are needed: one to train on and one to check with",
        )
    shares = list(ratios)
    if len(labelled) == 2 and ratios[1] > 0:
        shares[2] = 0
    train, val, test = _deal(labelled, shares, pixels)
    return {
        "train": train + [group for group in groups if not group.weight],
        "val": val,
        "test": test,
    }


def _deal(
    groups: list[_Group], shares: Sequence[float], pixels: Mapping[str, Sequence[int]]
) -> list[list[_Group]]:
    """Deal groups to hands by their shares, then swap until each hand mirrors the whole.

    In their shuffled order, so that large groups are not all trained on; but heaviest first where
    only that comes near enough to the shares.
    """
    names = [[case.id for case in group.cases if case.mask is not None] for group in groups]
    table = profiles(names, pixels)
    heaviest_first = sorted(range(len(groups)), key=lambda index: -groups[index].weight)
    nearest = _deal_in(heaviest_first, groups, shares)
    slack = allowance(nearest, table, shares)
    owner = balance(_deal_in(range(len(groups)), groups, shares), table, shares, slack)
    if off_by(owner, table, shares) > slack:
        owner = balance(nearest, table, shares, slack)
    return [[groups[i] for i in np.flatnonzero(owner == hand)] for hand in range(len(shares))]


def _deal_in(
    order: Iterable[int], groups: list[_Group], shares: Sequence[float]
) -> NDArray[np.int64]:
    """(groups,) the hand of each: the one that lacks most when its turn comes.

    No hand with a share stays empty as long as another holds two groups.
    """
    total = sum(group.weight for group in groups) / sum(shares)
    lacking = [share * total for share in shares]
    hands: list[list[int]] = [[] for _ in shares]
    for index in order:
        hand = max(range(len(hands)), key=lambda hand: (shares[hand] > 0, lacking[hand]))
        hands[hand].append(index)
        lacking[hand] -= groups[index].weight
    for share, held in zip(shares, hands, strict=True):
        richest = max(hands, key=len)
        if share > 0 and not held and len(richest) > 1:
            held.append(richest.pop())
    owner = np.zeros(len(groups), np.int64)
    for hand, held in enumerate(hands):
        owner[held] = hand
    return owner


def _published(groups: list[_Group]) -> _Parts:
    parts: _Parts = {part: [] for part in SPLITS}
    for group in groups:
        # A case without a part must not be trained on when its group is tested on.
        given = {case.split for case in group.cases}
        default = next((part for part in reversed(SPLITS) if part in given), "train")
        for part in SPLITS:
            members = tuple(case for case in group.cases if (case.split or default) == part)
            if members:
                parts[part].append(_Group(members))
    if not any(group.weight for group in parts["train"]):
        raise DataError(
            "split",
            "the published split has no labelled training cases",
            "Add a training part, or remove the split to have one drawn",
        )
    return parts


def _with_drawn_val(
    parts: _Parts,
    ratios: tuple[float, float, float],
    pixels: Mapping[str, Sequence[int]],
) -> _Parts:
    if ratios[1] == 0:
        return parts
    labelled = [group for group in parts["train"] if group.weight]
    if len(labelled) < 2:
        raise DataError(
            "split",
            "the published training part holds only one patient or image",
            "Publish a validation part, or add training cases",
        )
    train, val = _deal(labelled, ratios[:2], pixels)
    unlabelled = [group for group in parts["train"] if not group.weight]
    return {**parts, "train": train + unlabelled, "val": val}
