"""Finding patients and alike images that stand in more than one part of a split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from medseg.data.case import SPLITS, Case, Split
from medseg.errors import DataError, plural

KINDS = frozenset({"patient-in-two-splits", "image-in-two-splits", "near-duplicate-in-two-splits"})
"""The problems of `data check` that are leaks of a published split."""


@dataclass(frozen=True, slots=True)
class Leak:
    """Cases that belong together and stand in several parts.

    Attributes:
        patient: whose cases they are, or None when it is their images that are alike.
        parts: the ids of the cases in each part; at least two parts.
    """

    patient: str | None
    parts: Mapping[Split, tuple[str, ...]]

    def __str__(self) -> str:
        whose = "alike images" if self.patient is None else f"patient {self.patient}"
        return f"{whose}: " + "; ".join(
            f"{_some(ids)} in {part}" for part, ids in self.parts.items()
        )


def find_leaks(
    cases: Iterable[Case], split: Mapping[str, Split], clusters: Mapping[str, str]
) -> tuple[Leak, ...]:
    """Patients and clusters of alike images that are in more than one part.

    Alike images of a patient who is a leak already are not listed again.

    Args:
        cases: of the dataset. Those that ``split`` does not list are in their published part.
        split: case id to part.
        clusters: case id to what alike images share.
    """
    patients: dict[str, list[Case]] = defaultdict(list)
    alike: dict[str, list[Case]] = defaultdict(list)
    placed = {case.id: split.get(case.id, case.split) for case in cases}
    for case in cases:
        if case.patient is not None:
            patients[case.patient].append(case)
        if case.id in clusters:
            alike[clusters[case.id]].append(case)
    of_patients = [
        Leak(patient, parts)
        for patient, members in sorted(patients.items())
        if len(parts := _parts(members, placed)) > 1
    ]
    divided = {leak.patient for leak in of_patients}
    of_images = []
    for members in alike.values():
        owners = {case.patient for case in members}
        if len(owners) == 1 and owners <= divided:
            continue
        parts = _parts(members, placed)
        if len(parts) > 1:
            of_images.append(Leak(None, parts))
    return (*of_patients, *of_images)


def summary(leaks: Sequence[Leak]) -> str:
    """``"2 patients and 1 group of alike images (7 cases)"``."""
    patients = sum(leak.patient is not None for leak in leaks)
    cases = {case for leak in leaks for ids in leak.parts.values() for case in ids}
    counted = [
        plural(patients, "patient") if patients else "",
        plural(groups, "group") + " of alike images" if (groups := len(leaks) - patients) else "",
    ]
    return f"{' and '.join(filter(None, counted))} ({plural(len(cases), 'case')})"


_REMEDY = (
    "Remove the copies, or move what belongs together to one part; with --allow-leak it is used "
    "all the same, and every report says so"
)


def leak_error(
    where: object, leaks: Sequence[Leak], remedy: str = _REMEDY, most: int = 20
) -> DataError:
    """Why a split is refused, and what stands in several parts."""
    lines = list(map(str, leaks[:most]))
    if len(leaks) > most:
        lines.append(f"... and {len(leaks) - most} more")
    return DataError(
        where,
        f"the split leaks: {summary(leaks)} on both sides, so scores would be too good",
        "\n  ".join([f"{remedy}:", *lines]),
    )


def _parts(
    members: Iterable[Case], placed: Mapping[str, Split | None]
) -> dict[Split, tuple[str, ...]]:
    found = {
        part: tuple(sorted(case.id for case in members if placed[case.id] == part))
        for part in SPLITS
    }
    return {part: ids for part, ids in found.items() if ids}


def _some(ids: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(ids[:most])
    return shown if len(ids) <= most else f"{shown} and {len(ids) - most} more"
