"""What a dataset is made of: cases, and the classes their masks may hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from medseg.data.source import Source

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

IGNORE = 255
"""The class index of pixels that are neither learnt from nor scored."""


@dataclass(frozen=True, slots=True)
class Case:
    """One subject's image and, if labelled, its mask.

    Attributes:
        id: unique within the dataset: the image's path below the image folder, without its
            suffix, with ``/`` between folders (``"site_a/0001"``).
        image: where the image lies.
        mask: where the mask lies, or None when the case is unlabelled.
        patient: the group that must stay on one side of a split, or None when unknown.
        split: the published part the case belongs to, or None when the dataset has none.
        attributes: further columns of a manifest (site, sex, age, device ...), as text.
        field_of_view: a mask that is 0 where the image shows nothing; there, nothing is learnt
            and nothing is scored. None when all of the image counts.
    """

    id: str
    image: Source
    mask: Source | None = None
    patient: str | None = None
    split: Split | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    field_of_view: Source | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a dataset.

    Attributes:
        severity: an ``error`` stops training, a ``warning`` does not.
        kind: a short stable name, e.g. ``"size-mismatch"``.
        where: the file or case at fault.
        found: what was found there.
        remedy: what to do about it.
    """

    severity: Literal["error", "warning"]
    kind: str
    where: str
    found: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Label:
    """One class of a mask.

    Attributes:
        name: e.g. ``"nucleus"``.
        value: how mask files store the class: a grey or palette value, or 0xRRGGBB in
            RGB-coded masks.
    """

    name: str
    value: int


@dataclass(frozen=True, slots=True)
class Region:
    """A structure made of several classes, which may overlap with others.

    Attributes:
        name: e.g. ``"whole tumour"``.
        classes: their indices in the label map.
    """

    name: str
    classes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LabelMap:
    """The classes of a dataset. A class's index is its place in ``labels``; 0 is background.

    Attributes:
        labels: background first; at least two.
        rgb: whether masks store colours rather than values.
        ignore: the stored value of pixels that nothing is known of, or None.
        regions: what is scored; empty when that is each foreground class by itself.
    """

    labels: tuple[Label, ...]
    rgb: bool = False
    ignore: int | None = None
    regions: tuple[Region, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    @property
    def values(self) -> tuple[int, ...]:
        return tuple(label.value for label in self.labels)

    @property
    def foreground(self) -> tuple[Label, ...]:
        return self.labels[1:]

    @property
    def structures(self) -> tuple[Region, ...]:
        """What is scored: the regions, or else each foreground class."""
        return self.regions or tuple(
            Region(label.name, (index,)) for index, label in enumerate(self.labels) if index
        )

    @property
    def num_classes(self) -> int:
        """Logit channels a network needs: 1 for a binary task, else all classes."""
        return 1 if len(self.labels) == 2 else len(self.labels)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A list of cases read in place.

    Attributes:
        root: the folder or manifest the user named.
        layout: the name of the layout that recognised it.
        reason: why that layout, in words, for ``medseg info``.
        cases: sorted by id.
        labels: the declared label map, or None when it must be inferred from the masks.
        problems: what the layout itself noticed (unpaired files, duplicate stems ...).
        folds: the published folds, each the part of every case that is not for testing; empty
            when there are none. With several, only test cases have a split of their own.
    """

    root: Path
    layout: str
    reason: str
    cases: tuple[Case, ...]
    labels: LabelMap | None = None
    problems: Sequence[Problem] = ()
    folds: tuple[Mapping[str, Split], ...] = ()
