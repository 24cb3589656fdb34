"""What is known of a public dataset, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from medseg.data.case import Label, LabelMap, Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """The publication that users of a dataset are asked to cite.

    Attributes:
        authors: family names; "et al." after a few.
        year: of publication.
        title: as published.
        venue: journal with volume, or conference.
        link: a DOI, arXiv or other link.
    """

    authors: str
    year: int
    title: str
    venue: str
    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSplit:
    """How a dataset is divided where it was published.

    Attributes:
        rule: in words.
        parts: labelled images or volumes of each part.
        patterns: for each part, a regular expression that is found in the ids of its cases and
            of no others. Empty when folders or files of the dataset itself say it, and when
            only a list that is not kept here does; ``rule`` says which.
    """

    rule: str
    parts: Mapping[Split, int]
    patterns: Mapping[Split, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One public dataset.

    Attributes:
        name: the name to train by; the module's name with ``-``.
        title: as its authors call it.
        modality: e.g. ``"endoscopy"``.
        organ: or tissue, e.g. ``"colon"``.
        summary: what is to be seen and outlined, in a line.
        labels: background first, with the values that the published masks store.
        rgb: whether masks store colours (0xRRGGBB).
        objects: masks number their objects; everything but 0 is the one foreground class.
        images: labelled images or volumes as published, or None when unknown.
        unit: what ``images`` counts.
        patients: or other groups that stay together, or None when unknown.
        widths: smallest and largest width in pixels, or None when unknown or a volume.
        heights: likewise.
        licence: as published.
        licence_url: where that is said.
        citation: what to cite.
        url: where to get it.
        steps: how to get it there by hand, and what to do before ``medseg data add``.
        layout: the name of the layout that reads it.
        group_pattern: finds the group of a case in its id; None when nothing does.
        split: the published split, or None when there is none.
        notes: known flaws and what to mind.
        sources: where the facts were read.
        unverified: the fields whose values no source that was read confirms.
    """

    name: str
    title: str
    modality: str
    organ: str
    summary: str
    labels: tuple[Label, ...]
    rgb: bool = False
    objects: bool = False
    images: int | None
    unit: Literal["images", "volumes"] = "images"
    patients: int | None = None
    widths: tuple[int, int] | None = None
    heights: tuple[int, int] | None = None
    licence: str
    licence_url: str
    citation: Citation
    url: str
    steps: tuple[str, ...]
    layout: str
    group_pattern: str | None = None
    split: PublishedSplit | None = None
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()

    @property
    def label_map(self) -> LabelMap:
        return LabelMap(self.labels, rgb=self.rgb)

    @property
    def size(self) -> str:
        """Of the images, in words; empty when unknown."""
        if self.widths is None or self.heights is None:
            return ""
        return f"{_range(self.widths)} x {_range(self.heights)}"


def binary(foreground: str, value: int = 255) -> tuple[Label, ...]:
    """Background stored as 0, and one class."""
    return (Label("background", 0), Label(foreground, value))


def _range(bounds: tuple[int, int]) -> str:
    least, most = bounds
    return f"{least}" if least == most else f"{least}..{most}"
