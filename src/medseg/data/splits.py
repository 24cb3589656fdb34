"""Dividing cases into training, validation and test parts without leaks."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from medseg.data.case import SPLITS, Case, Split
from medseg.data.integrity import Survey
from medseg.data.stratify import balance, profiles
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
    draw = partial(
        make_split,
        duplicates=survey.clusters,
        pixels={facts.id: facts.pixels for facts in survey.cases if facts.pixels},
        ratios=ratios,
        seed=seed,
    )
    if not published or fold is None:
        return Division(draw(survey.usable, fold=fold, folds=count), fold, count)
    parts = published[fold]
    cases = [replace(case, split=parts.get(case.id, case.split)) for case in survey.usable]
    return Division(draw(cases), fold, count)


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
    count = len(published) or folds or DEFAULT_FOLDS
    if (
        published
        and fold is None
        and not any(case.split is not None and case.id in published[0] for case in cases)
    ):
        fold = 0
    _check_fold(fold, count)
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
    Groups are shuffled and dealt so that the labelled cases come as near to ``ratios`` as groups
    allow, then swapped between parts so that each shows the same classes in the same sizes as the
    whole (:func:`medseg.data.stratify.balance`). No part with a ratio above 0 stays empty when
    there are three groups; two groups give a training and a validation part. Groups without any
    labelled case go to the training part.

    A published split is kept as it is: cases without a part follow their group, or else train. A
    missing validation part is drawn from the training part; a missing test part is not invented.

    Args:
        cases: labelled and unlabelled cases.
        duplicates: case id to what alike images share, e.g. a hash of their content.
        pixels: case id to the mask pixels of each class, background first; None: groups are not
            swapped.
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
    _check_ratios(ratios)
    _check_fold(fold, folds)
    labelled = sum(case.mask is not None for case in cases)
    if labelled < 2:
        raise DataError(
            "split",
            f"{plural(labelled, 'labelled case')} cannot be divided",
            "At least 2 are needed: one to train on and one to check with",
        )
    groups = _shuffled(cases, duplicates or {}, seed)
    pixels = pixels or {}
    if any(case.split is not None for case in cases):
        parts = _published(groups)
        if not parts["val"] and fold is None:
            parts = _with_drawn_val(parts, ratios, pixels)
    else:
        parts = _dealt(groups, ratios, pixels)
    if fold is not None:
        # What is not for testing is cut anew: a patient may stand on both sides of its old parts.
        rest = [case for name in ("train", "val") for group in parts[name] for case in group.cases]
        parts |= _cut(_shuffled(rest, duplicates or {}, seed), fold, folds, pixels)
    split = {case.id: part for part in SPLITS for group in parts[part] for case in group.cases}
    return dict(sorted(split.items()))


def _check_ratios(ratios: tuple[float, float, float]) -> None:
    if len(ratios) != 3 or min(ratios) < 0 or ratios[0] == 0 or not math.isclose(sum(ratios), 1):
        raise DataError(
            "ratios",
            f"are {', '.join(map(str, ratios))}",
            "Give shares of train, val and test that add up to 1, with some for train",
        )


def _check_fold(fold: int | None, folds: int) -> None:
    if fold is not None and not (folds >= 2 and 0 <= fold < folds):
        raise DataError(
            "fold", f"is {fold} of {folds}", "Folds are counted from 0, and there are at least 2"
        )


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
    """Deal the heaviest group first, each to the hand that lacks most; then swap.

    No hand with a share stays empty as long as another holds two groups.
    """
    total = sum(group.weight for group in groups) / sum(shares)
    lacking = [share * total for share in shares]
    hands: list[list[_Group]] = [[] for _ in shares]
    for group in sorted(groups, key=lambda group: -group.weight):
        hand = max(range(len(hands)), key=lambda index: (shares[index] > 0, lacking[index]))
        hands[hand].append(group)
        lacking[hand] -= group.weight
    for share, hand_held in zip(shares, hands, strict=True):
        richest = max(hands, key=len)
        if share > 0 and not hand_held and len(richest) > 1:
            hand_held.append(richest.pop())
    return _swapped(hands, shares, pixels) if pixels else hands


def _swapped(
    hands: list[list[_Group]], shares: Sequence[float], pixels: Mapping[str, Sequence[int]]
) -> list[list[_Group]]:
    dealt = [group for hand in hands for group in hand]
    owner = balance(
        np.repeat(np.arange(len(hands)), [len(hand) for hand in hands]),
        np.array([group.weight for group in dealt]),
        profiles([[case.id for case in group.cases] for group in dealt], pixels),
        shares,
    )
    return [[dealt[index] for index in np.flatnonzero(owner == hand)] for hand in range(len(hands))]


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


def _cut(
    groups: list[_Group], fold: int, folds: int, pixels: Mapping[str, Sequence[int]]
) -> _Parts:
    labelled = [group for group in groups if group.weight]
    if len(labelled) < folds:
        raise DataError(
            "folds",
            f"{folds} are asked for, but only {len(labelled)} patients or images are left to cut",
            "Ask for fewer folds",
        )
    hands = _deal(labelled, [1.0] * folds, pixels)
    train = [group for index, hand in enumerate(hands) if index != fold for group in hand]
    unlabelled = [group for group in groups if not group.weight]
    return {"train": train + unlabelled, "val": hands[fold]}
