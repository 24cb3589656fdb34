"""What images and masks look like at each site, and on each device, that cases come from.

A network that can tell sites apart by their brightness may learn the site instead of the disease
(J. R. Zech et al., PLOS Medicine 2018), above all when what is shown differs between sites too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medseg.data.case import Case, LabelMap, Problem
from medseg.errors import plural

ATTRIBUTES = ("site", "device")
"""The columns of a manifest that say where an image comes from."""

FEWEST_CASES = 5
STRONG = 1.2
"""Cohen's d from which sites differ strongly: "very large" (S. S. Sawilowsky, 2009)."""

_COMMON = 0.2


class Measured(Protocol):
    """What is looked at of a case (:class:`medseg.data.survey.CaseFacts`)."""

    @property
    def id(self) -> str: ...
    @property
    def pixels(self) -> tuple[int, ...]: ...
    @property
    def mean(self) -> float: ...
    @property
    def deviation(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Site:
    """The fingerprint of the cases with one value of an attribute.

    Attributes:
        attribute: ``"site"`` or ``"device"``.
        name: e.g. ``"Vienna"``.
        cases: how many.
        means: the mean grey value of each image, 0 to 255.
        contrast: the mean over images of the standard deviation of grey values.
        effect: Cohen's d between the site's mean grey values and all others'; None when one side
            has fewer than 5 cases.
        shows: foreground class to the share of labelled cases that show it.
    """

    attribute: str
    name: str
    cases: int
    means: tuple[float, ...]
    contrast: float
    effect: float | None
    shows: Mapping[str, float]

    @property
    def mean(self) -> float:
        return float(np.mean(self.means))

    @property
    def deviation(self) -> float:
        """Standard deviation of the images' means; 0 for one image."""
        return float(np.std(self.means, ddof=1)) if self.cases > 1 else 0.0


def find_sites(
    cases: Iterable[Case], facts: Sequence[Measured], labels: LabelMap | None
) -> tuple[Site, ...]:
    """The sites and devices of a dataset, by attribute and name; none where all are the same."""
    attributes = {case.id: case.attributes for case in cases}
    found = []
    for attribute in ATTRIBUTES:
        groups: dict[str, list[Measured]] = defaultdict(list)
        for item in facts:
            name = attributes[item.id].get(attribute, "")
            if name:
                groups[name].append(item)
        if len(groups) < 2:
            continue
        for name, members in sorted(groups.items()):
            others = [item for other, them in groups.items() if other != name for item in them]
            found.append(
                Site(
                    attribute,
                    name,
                    len(members),
                    tuple(item.mean for item in members),
                    round(float(np.mean([item.deviation for item in members])), 2),
                    _effect(_means(members), _means(others)),
                    _shows(members, labels),
                )
            )
    return tuple(found)


def site_problems(sites: Sequence[Site]) -> Iterator[Problem]:
    """Sites that differ strongly in brightness, and sites that never show what others show."""
    for site in sites:
        where = f"{site.attribute} {site.name}"
        if site.effect is not None and abs(site.effect) >= STRONG:
            yield Problem(
                "warning",
                "site-intensity",
                where,
                f"its {plural(site.cases, 'image')} are "
                f"{'brighter' if site.effect > 0 else 'darker'} than all others: mean "
                f"{site.mean:.0f} of 255, Cohen's d {site.effect:+.1f}",
                "Score each site by itself, and keep one for testing if you can",
            )
        others = [other for other in sites if other.attribute == site.attribute and other != site]
        for label, share in site.shows.items():
            counted = [other for other in others if label in other.shows]
            total = sum(other.cases for other in counted)
            if share or site.cases < FEWEST_CASES or not total:
                continue
            elsewhere = sum(other.shows[label] * other.cases for other in counted) / total
            if elsewhere >= _COMMON:
                yield Problem(
                    "warning",
                    "site-label",
                    where,
                    f"none of its {plural(site.cases, 'case')} shows '{label}'; elsewhere "
                    f"{100 * elsewhere:.0f} % do",
                    f"A network may learn the {site.attribute} instead: add cases that show it, "
                    "or leave these out",
                )


def _means(items: Sequence[Measured]) -> NDArray[np.float64]:
    return np.array([item.mean for item in items])


def _effect(some: NDArray[np.float64], others: NDArray[np.float64]) -> float | None:
    """Cohen's d with the pooled standard deviation, of at least one grey level."""
    if min(len(some), len(others)) < FEWEST_CASES:
        return None
    squares = len(some) * some.var() + len(others) * others.var()
    pooled = max(float(np.sqrt(squares / (len(some) + len(others) - 2))), 1.0)
    return round(float(some.mean() - others.mean()) / pooled, 2)


def _shows(items: Sequence[Measured], labels: LabelMap | None) -> dict[str, float]:
    labelled = [item.pixels for item in items if item.pixels]
    if labels is None or not labelled:
        return {}
    return {
        label.name: round(sum(pixels[index] > 0 for pixels in labelled) / len(labelled), 4)
        for index, label in enumerate(labels.foreground, start=1)
    }
