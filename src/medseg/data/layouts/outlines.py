"""What layouts share whose masks are outlines in a text file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from medseg.data.case import Case, Label, LabelMap, Problem
from medseg.data.expand import Subject, expand
from medseg.data.labels import MAX_CLASSES
from medseg.data.shapes import Shapes
from medseg.errors import plural

BACKGROUND = "background"
# Beyond this no image reaches, and numbers keep their fractions.
_FARTHEST = 1e6


def label_map(names: Sequence[str]) -> tuple[LabelMap | None, list[int], str]:
    """The classes of named objects, the value of each name, and what is wrong with the names.

    The first class is the background; its objects, if there are any, cut holes into others.
    """
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        return None, [], f"'{repeated[0]}' is declared twice"
    objects = [name for name in names if name.lower() != BACKGROUND]
    if not 1 <= len(objects) < MAX_CLASSES:
        return None, [], f"{len(objects) or 'no'} classes are declared"
    labels = [Label(name, value) for value, name in enumerate(objects, start=1)]
    values = {label.name: label.value for label in labels}
    labels.insert(0, Label(BACKGROUND, 0))
    return LabelMap(tuple(labels)), [values.get(name, 0) for name in names], ""


def wrong_corners(numbers: Sequence[object]) -> str:
    """What is wrong with ``x1 y1 x2 y2 ...``; empty when nothing is."""
    if not set(map(type, numbers)) <= {int, float}:
        return "a polygon holds something other than numbers"
    if len(numbers) % 2:
        return f"a polygon has an odd number of coordinates ({len(numbers)})"
    if len(numbers) < 6:
        return f"a polygon has {plural(len(numbers) // 2, 'corner')}, and needs 3"
    # Not the other way round: NaN is neither.
    if not all(-_FARTHEST <= number <= _FARTHEST for number in numbers):  # type: ignore[operator]
        return "a polygon has a coordinate that is not finite or out of all bounds"
    return ""


def leaves(corners: Sequence[float], height: float, width: float, *, slack: float) -> bool:
    """Whether a polygon goes outside its image by more than ``slack``."""
    points = np.array(corners, np.float64).reshape(-1, 2)
    return bool((points < -slack).any() or (points > [width + slack, height + slack]).any())


def with_mask(subject: Subject, mask: Shapes | None) -> tuple[list[Case], list[Problem]]:
    """The case of a subject whose mask is outlines; None when it is unlabelled."""
    cases, problems = expand(subject)
    if mask is None:
        return cases, problems
    if len(cases) > 1:
        problem = Problem(
            "error",
            "outlined-volume",
            str(subject.images[0]),
            f"holds {len(cases)} pictures, but its outlines are those of one",
            "Save one picture per file",
        )
        return [], [problem]
    return [replace(case, mask=mask) for case in cases], problems
