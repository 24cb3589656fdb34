"""Cases that are unlike the others: in size, in shape, in brightness, in how much their mask shows.

A case is an outlier when it lies more than 5 robust standard deviations (1.4826 times the median
absolute deviation; B. Iglewicz and D. C. Hoaglin, 1993) from the median, and by so much that it
matters: twice the area, 1.5 times the aspect ratio, 40 grey levels, 8 times the share of a class.
Where more than one case in twenty would be one, the dataset is a mixture and has no outliers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from medseg.data.case import LabelMap

FEWEST_CASES = 20

_DEVIATIONS = 5.0
_MOST = 0.05
_AREA = np.log(2)
_ASPECT = np.log(1.5)
_GREY_LEVELS = 40.0
_SHARE = np.log(8)


class Measured(Protocol):
    """What is looked at of a case (:class:`medseg.data.survey.CaseFacts`)."""

    @property
    def id(self) -> str: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def pixels(self) -> tuple[int, ...]: ...
    @property
    def mean(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Outliers:
    """Cases that are unlike the others in one respect.

    Attributes:
        kind: ``"outlier-size"``, ``"outlier-intensity"`` or ``"outlier-label"``.
        what: the respect in words, e.g. ``"size"`` or ``"share of 'lesion'"``.
        usual: the median, as text.
        cases: case id to its value as text, the farthest first.
    """

    kind: str
    what: str
    usual: str
    cases: Mapping[str, str]


def find_outliers(facts: Sequence[Measured], labels: LabelMap | None) -> tuple[Outliers, ...]:
    """All outliers of a dataset, empty when it has fewer than 20 cases.

    The share of a class is looked at in the cases that show it.
    """
    return tuple(_outliers(facts, labels))


def _outliers(facts: Sequence[Measured], labels: LabelMap | None) -> Iterator[Outliers]:
    sizes = {item.id: f"{item.width} x {item.height}" for item in facts}
    areas = {item.id: float(np.log(item.width * item.height)) for item in facts}
    shapes = {item.id: float(np.log(item.width / item.height)) for item in facts}
    means = {item.id: item.mean for item in facts}
    for what, values, least in (("size", areas, _AREA), ("aspect ratio", shapes, _ASPECT)):
        far = _far(values, float(least))
        if far:
            usual = sizes[_middle(values)]
            yield Outliers("outlier-size", what, usual, {case: sizes[case] for case in far})
    far = _far(means, _GREY_LEVELS)
    if far:
        usual = f"{np.median(list(means.values())):.0f} of 255"
        shown = {case: f"{means[case]:.0f}" for case in far}
        yield Outliers("outlier-intensity", "mean brightness", usual, shown)
    for index, label in enumerate(labels.foreground if labels else (), start=1):
        shares = {
            item.id: item.pixels[index] / sum(item.pixels)
            for item in facts
            if item.pixels and item.pixels[index]
        }
        far = _far({case: float(np.log(share)) for case, share in shares.items()}, float(_SHARE))
        if far:
            usual = _percent(float(np.median(list(shares.values()))))
            shown = {case: _percent(shares[case]) for case in far}
            yield Outliers("outlier-label", f"share of '{label.name}'", usual, shown)


def _far(values: Mapping[str, float], least: float) -> list[str]:
    """The outliers, farthest first; ``least`` is the smallest distance that matters."""
    if len(values) < FEWEST_CASES:
        return []
    numbers = np.array(list(values.values()))
    distances = np.abs(numbers - np.median(numbers))
    limit = max(least, _DEVIATIONS * 1.4826 * float(np.median(distances)))
    far = np.flatnonzero(distances > limit)
    if len(far) > _MOST * len(values):
        return []
    names = list(values)
    return [names[place] for place in far[np.argsort(-distances[far], kind="stable")]]


def _middle(values: Mapping[str, float]) -> str:
    ordered = sorted(values, key=lambda case: values[case])
    return ordered[len(ordered) // 2]


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
