"""What is known of a dataset once every file of it has been looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data import duplicates
from medseg.data.case import Case, Dataset, LabelMap, Problem
from medseg.data.outliers import Outliers
from medseg.data.sites import Site


@dataclass(frozen=True, slots=True)
class CaseFacts:
    """What is known of a case whose files can be used.

    Attributes:
        id: the case's id.
        image_sha256: of the image file (of its files and the place in them, if it is not one).
        mask_sha256: likewise, with the field of view; None when the case is unlabelled.
        content: SHA-256 of the decoded image: equal for equal pixels in different files. Empty
            when all pixels are equal, as in the outermost slices of a volume.
        height: in pixels, after EXIF rotation.
        width: in pixels, after EXIF rotation.
        pixels: mask pixels of each class, in the order of the label map; empty when unlabelled.
        mean: of the image's grey values, 0 to 255.
        deviation: their standard deviation.
    """

    id: str
    image_sha256: str
    mask_sha256: str | None
    content: str
    height: int
    width: int
    pixels: tuple[int, ...]
    mean: float = 0.0
    deviation: float = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether the case has a mask that shows nothing."""
        return bool(self.pixels) and not any(self.pixels[1:])

    @property
    def is_all_foreground(self) -> bool:
        """Whether the case has a mask without background."""
        return bool(self.pixels) and self.pixels[0] == 0


@dataclass(frozen=True, slots=True)
class NearPair:
    """Two cases with nearly the same image; see :mod:`medseg.data.duplicates`.

    Attributes:
        first: a case id.
        second: another; of another dataset, when two are compared.
        distance: 0 for a copy, up to 0.35.
    """

    first: str
    second: str
    distance: float


@dataclass(frozen=True, slots=True)
class Survey:
    """What :func:`check_dataset` found.

    Attributes:
        dataset: what was checked.
        labels: declared or inferred; None when neither worked, which is then an error problem.
        channels: 1 when every image is grey or has three equal channels, 3 when some are in
            colour; otherwise as many as every image has. Like inferred labels, it is decided
            without the cases that are published for testing.
        cases: the cases whose files can be used, by id, including unlabelled ones.
        problems: the layout's first, then those of single files, then those of the whole.
        near: pairs of nearly equal images, nearest first. Of images with equal pixels only the
            first is compared; pairs of one patient are left out.
        near_limit: the distance up to which a pair is near in this dataset.
        outliers: cases unlike the others.
        sites: what cases of each site and device look like.
        thumbnails: what images are compared by, for all cases whose images show something.
    """

    dataset: Dataset
    labels: LabelMap | None
    channels: int
    cases: tuple[CaseFacts, ...]
    problems: tuple[Problem, ...]
    near: tuple[NearPair, ...] = ()
    near_limit: float = duplicates.NEAREST
    outliers: tuple[Outliers, ...] = ()
    sites: tuple[Site, ...] = ()
    thumbnails: Mapping[str, NDArray[np.uint8]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity == "warning")

    @property
    def usable(self) -> tuple[Case, ...]:
        """The labelled cases whose image and mask are readable, fit and hold only known values."""
        ids = {facts.id for facts in self.cases if facts.pixels}
        return tuple(case for case in self.dataset.cases if case.id in ids)

    @property
    def contents(self) -> dict[str, str]:
        """Case id to content hash, as :func:`medseg.data.splits.make_split` takes it."""
        return {facts.id: facts.content for facts in self.cases if facts.content}

    @property
    def clusters(self) -> dict[str, str]:
        """Case id to what alike images share, as :mod:`medseg.data.splits` takes it.

        Cases with equal or nearly equal images, also over several steps, share the content hash
        of one of them.
        """
        return clusters_of(self.contents, self.near)

    def to_json(self) -> dict[str, Any]:
        """The survey as plain dicts, lists, numbers and text."""
        labels = self.labels
        return {
            "root": str(self.dataset.root),
            "layout": self.dataset.layout,
            "reason": self.dataset.reason,
            "channels": self.channels,
            "labels": None
            if labels is None
            else [{"name": label.name, "value": label.value} for label in labels.labels],
            "rgb": labels is not None and labels.rgb,
            "cases": [
                {name: getattr(facts, name) for name in CaseFacts.__slots__} for facts in self.cases
            ],
            "near": [
                {name: getattr(pair, name) for name in NearPair.__slots__} for pair in self.near
            ],
            "near_limit": round(self.near_limit, 4),
            "outliers": [
                {"kind": far.kind, "what": far.what, "usual": far.usual, "cases": dict(far.cases)}
                for far in self.outliers
            ],
            "sites": [
                {
                    "attribute": site.attribute,
                    "name": site.name,
                    "cases": site.cases,
                    "mean": round(site.mean, 2),
                    "deviation": round(site.deviation, 2),
                    "contrast": site.contrast,
                    "effect": site.effect,
                    "shows": dict(site.shows),
                }
                for site in self.sites
            ],
            "empty_masks": [facts.id for facts in self.cases if facts.is_empty],
            "all_foreground": [facts.id for facts in self.cases if facts.is_all_foreground],
            "problems": [
                {name: getattr(problem, name) for name in Problem.__slots__}
                for problem in self.problems
            ],
        }


def clusters_of(contents: Mapping[str, str], near: Iterable[NearPair]) -> dict[str, str]:
    """Case id to the content hash that stands for all alike images (union-find)."""
    parent: dict[str, str] = {}

    def root(content: str) -> str:
        while parent.setdefault(content, content) != content:
            parent[content] = parent[parent[content]]
            content = parent[content]
        return content

    for pair in near:
        if pair.first in contents and pair.second in contents:
            parent[root(contents[pair.second])] = root(contents[pair.first])
    return {case: root(content) for case, content in contents.items()}
