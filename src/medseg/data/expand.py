"""From the files of a subject to cases: one for a 2D image, one a slice for a volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medseg.data.case import Case, Problem, Split
from medseg.data.source import Channels, File, Source, Union


@dataclass(frozen=True, slots=True)
class Subject:
    """What a layout knows of one subject before any file is opened.

    Attributes:
        id: unique within the dataset.
        images: the image; several files are its channels.
        masks: the mask; several files are united. Empty when unlabelled.
        patient: as in :class:`Case`.
        split: as in :class:`Case`.
        attributes: as in :class:`Case`.
        field_of_view: a mask that is 0 where the image shows nothing, or None.
        mask_values: what pixels other than 0 of each mask become; empty: they keep their value.
    """

    id: str
    images: Sequence[Path]
    masks: Sequence[Path] = ()
    patient: str | None = None
    split: Split | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    field_of_view: Path | None = None
    mask_values: tuple[int, ...] = ()


def expand(subject: Subject) -> tuple[list[Case], list[Problem]]:
    """The cases of a subject, and what is wrong with its files.

    Only headers are read. Slices of a volume get the subject's id plus ``/slice_012`` and, when
    no patient is known, the subject as their patient.
    """
    case = Case(
        subject.id,
        _image([File(path) for path in subject.images]),
        _mask([File(path) for path in subject.masks], subject.mask_values),
        subject.patient,
        subject.split,
        subject.attributes,
        File(subject.field_of_view) if subject.field_of_view is not None else None,
    )
    return [case], []


def _image(parts: Sequence[Source]) -> Source:
    return parts[0] if len(parts) == 1 else Channels(tuple(parts))


def _mask(parts: Sequence[Source], values: tuple[int, ...]) -> Source | None:
    if not parts:
        return None
    return parts[0] if len(parts) == 1 and not values else Union(tuple(parts), values)
