"""Dividing cases into training, validation and test parts without leaks."""

from __future__ import annotations

import csv
import io
import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.data.case import SPLITS, Case, Split
from medseg.errors import DataError, plural
from medseg.files import write_text

_COLUMNS = ["case", "split", "patient"]


@dataclass(frozen=True, slots=True)
class _Group:
    """Cases that stay together."""

    cases: tuple[Case, ...]

    @property
    def weight(self) -> int:
        """Labelled cases, which are what ratios count."""
        return sum(case.mask is not None for case in self.cases)


_Parts = dict[Split, list[_Group]]


def make_split(
    cases: Sequence[Case],
    *,
    duplicates: Mapping[str, str] | None = None,
    ratios: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    fold: int | None = None,
    folds: int = 5,
) -> dict[str, Split]:
    """Give every case to one part; the order of ``cases`` does not matter.

    Cases of one patient and cases with the same image form a group, and a group is never divided.
    Groups are shuffled and dealt so that the labelled cases come as near to ``ratios`` as groups
    allow. No part with a ratio above 0 stays empty when there are three groups; two groups give a
    training and a validation part. Groups without any labelled case go to the training part.

    A published split is kept as it is: cases without a part follow their group, or else train. A
    missing validation part is drawn from the training part; a missing test part is not invented.

    Args:
        cases: labelled and unlabelled cases.
        duplicates: case id to a hash of the image's content.
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
    _check_arguments(ratios, fold, folds)
    labelled = sum(case.mask is not None for case in cases)
    if labelled < 2:
        raise DataError(
            "split",
            f"{plural(labelled, 'labelled case')} cannot be divided",
            "At least 2 are needed: one to train on and one to check with",
        )
    groups = _groups(cases, duplicates or {})
    random.Random(seed).shuffle(groups)
    if any(case.split is not None for case in cases):
        parts = _published(groups)
        if not parts["val"] and fold is None:
            parts = _with_drawn_val(parts, ratios)
    else:
        parts = _dealt(groups, ratios)
    if fold is not None:
        parts = _with_fold(parts, fold, folds)
    split = {case.id: part for part in SPLITS for group in parts[part] for case in group.cases}
    return dict(sorted(split.items()))


def write_split(path: Path, split: Mapping[str, Split], cases: Sequence[Case]) -> None:
    """Write ``case,split,patient`` rows as CSV, atomically, sorted by case id.

    Raises:
        DataError: a case of ``split`` is not among ``cases``.
        MedsegError: the folder cannot be written.
    """
    patients = {case.id: case.patient for case in cases}
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for case_id, part in sorted(split.items()):
        if case_id not in patients:
            raise _unknown(path, case_id)
        writer.writerow([case_id, part, patients[case_id] or ""])
    write_text(path, table.getvalue())


def read_split(path: Path, cases: Sequence[Case] | None = None) -> dict[str, Split]:
    """Read what :func:`write_split` wrote.

    Args:
        path: the CSV file.
        cases: when given, every listed case must be one of them.

    Returns:
        Case id to part.

    Raises:
        DataError: not such a file, a bad row, a case listed twice or not among ``cases``.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(path, f"cannot be read ({error})", "Name a split file") from error
    if not rows or rows[0][:2] != _COLUMNS[:2]:
        raise DataError(path, "is not a split file", f"Its first line must be {','.join(_COLUMNS)}")
    known = None if cases is None else {case.id for case in cases}
    split: dict[str, Split] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        case_id, part = (*row, "", "")[:2]
        allowed = {name: name for name in SPLITS}
        if not case_id or part not in allowed:
            raise DataError(
                path,
                f"row {number} is '{','.join(row)}'",
                f"Write a case id and one of {', '.join(SPLITS)}",
            )
        if case_id in split:
            raise DataError(path, f"row {number} lists '{case_id}' again", "List each case once")
        if known is not None and case_id not in known:
            raise _unknown(path, case_id)
        split[case_id] = allowed[part]
    return split


def _unknown(path: Path, case_id: str) -> DataError:
    return DataError(
        path, f"the case '{case_id}' is not in the dataset", "Use the split file of this dataset"
    )


def _check_arguments(ratios: tuple[float, float, float], fold: int | None, folds: int) -> None:
    if len(ratios) != 3 or min(ratios) < 0 or ratios[0] == 0 or not math.isclose(sum(ratios), 1):
        raise DataError(
            "ratios",
            f"are {', '.join(map(str, ratios))}",
            "Give shares of train, val and test that add up to 1, with some for train",
        )
    if fold is not None and not (folds >= 2 and 0 <= fold < folds):
        raise DataError(
            "fold", f"is {fold} of {folds}", "Folds are counted from 0, and there are at least 2"
        )


def _groups(cases: Sequence[Case], duplicates: Mapping[str, str]) -> list[_Group]:
    """Cases united by patient and by image content (union-find), in an order of their own."""
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


def _dealt(groups: list[_Group], ratios: tuple[float, float, float]) -> _Parts:
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
    train, val, test = _deal(labelled, shares)
    return {
        "train": train + [group for group in groups if not group.weight],
        "val": val,
        "test": test,
    }


def _deal(groups: list[_Group], shares: Sequence[float]) -> list[list[_Group]]:
    """Deal the heaviest group first, each to the hand that lacks most.

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
    return hands


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


def _with_drawn_val(parts: _Parts, ratios: tuple[float, float, float]) -> _Parts:
    if ratios[1] == 0:
        return parts
    labelled = [group for group in parts["train"] if group.weight]
    if len(labelled) < 2:
        raise DataError(
            "split",
            "the published training part holds only one patient or image",
            "Publish a validation part, or add training cases",
        )
    train, val = _deal(labelled, ratios[:2])
    unlabelled = [group for group in parts["train"] if not group.weight]
    return {**parts, "train": train + unlabelled, "val": val}


def _with_fold(parts: _Parts, fold: int, folds: int) -> _Parts:
    pool = parts["train"] + parts["val"]
    labelled = [group for group in pool if group.weight]
    if len(labelled) < folds:
        raise DataError(
            "folds",
            f"{folds} are asked for, but only {len(labelled)} patients or images are left to cut",
            "Ask for fewer folds",
        )
    hands = _deal(labelled, [1.0] * folds)
    train = [group for index, hand in enumerate(hands) if index != fold for group in hand]
    unlabelled = [group for group in pool if not group.weight]
    return {**parts, "train": train + unlabelled, "val": hands[fold]}
