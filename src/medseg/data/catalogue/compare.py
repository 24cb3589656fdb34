"""Comparing a copy of a public dataset with its entry."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from medseg.data.case import SPLITS, Case, Dataset, LabelMap
from medseg.data.catalogue.entry import Entry
from medseg.data.integrity import check_dataset
from medseg.data.layouts import LAYOUTS, open_dataset
from medseg.data.registry import Registration, apply
from medseg.data.survey import CaseFacts, Survey
from medseg.errors import DataError, plural

Progress = Callable[[int, int], None]
Verdict = Literal["same", "unsure", "differs", "noted"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was compared.

    Attributes:
        what: e.g. ``"images"``.
        published: in words; empty when the entry does not know.
        found: in words.
        verdict: ``differs`` is a reason to refuse a copy; ``unsure`` differs from what is itself
            unverified; ``noted`` is no difference in content.
    """

    what: str
    published: str
    found: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """A copy beside its entry.

    Attributes:
        registration: how the copy is to be read, with its differences.
        findings: all that was compared.
        survey: of the copy, as it will be read.
    """

    registration: Registration
    findings: tuple[Finding, ...]
    survey: Survey


def compare(
    entry: Entry,
    folder: Path,
    *,
    layout: str = "auto",
    group_pattern: str | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Read every file of a copy and hold it against its entry.

    Args:
        entry: what was published.
        folder: the copy.
        layout: by which it is read; ``auto`` is the entry's if it fits, else what fits.
        group_pattern: instead of the entry's.
        progress: called with (cases done, all cases).

    Raises:
        DataError: nothing to read.
    """
    folder = Path(os.path.abspath(folder))
    chosen = _layout(entry, folder, layout)
    plain = _open(entry, folder, chosen)
    repacked: Verdict = "same" if plain.layout == entry.layout else "noted"
    findings = [Finding("layout", entry.layout, plain.layout, repacked)]
    pattern, about_groups = _group_pattern(entry, folder, plain, group_pattern)
    registration = Registration(
        entry.name, folder, True, plain.layout, pattern, entry.label_map, entry.objects
    )
    survey = _survey(registration, progress)
    if plain.labels is None and _has_unexpected_values(survey):
        labels = _relabelled(entry, plain, progress)
        registration = replace(registration, labels=labels)
        survey = _survey(registration, progress)
    findings.append(_about_labels(entry, survey))
    findings += about_groups
    findings += _about_counts(entry, survey)
    findings += _about_sizes(entry, survey)
    findings += _about_split(entry, survey.dataset.cases)
    findings += _about_errors(survey)
    differences = tuple(
        _in_words(each) for each in findings if each.verdict in ("differs", "unsure")
    )
    return Comparison(replace(registration, differences=differences), tuple(findings), survey)


def _layout(entry: Entry, folder: Path, wanted: str) -> str:
    if wanted != "auto":
        return wanted
    published = LAYOUTS.get(entry.layout)
    fits = published is not None and published.recognise(folder) is not None
    return entry.layout if fits else "auto"


def _open(entry: Entry, folder: Path, layout: str) -> Dataset:
    try:
        return open_dataset(folder, layout=layout)
    except DataError as error:
        raise DataError(
            error.where,
            error.found,
            f"{error.remedy}. How {entry.name} must lie on disk: "
            f"medseg data catalogue show {entry.name}",
        ) from error


def _group_pattern(
    entry: Entry, folder: Path, dataset: Dataset, given: str | None
) -> tuple[str | None, list[Finding]]:
    """The pattern to register, and what is to be said of it."""
    if given is not None:
        open_dataset(folder, layout=dataset.layout, group_pattern=given)
        return given, []
    if entry.group_pattern is None or all(map(_has_patient, dataset.cases)):
        return None, []
    try:
        open_dataset(folder, layout=dataset.layout, group_pattern=entry.group_pattern)
    except DataError as error:
        return None, [Finding("groups", f"by '{entry.group_pattern}'", error.found, "differs")]
    return entry.group_pattern, []


def _has_patient(case: Case) -> bool:
    """Whether the copy says whose a case is; a volume alone makes its slices one patient's."""
    return case.patient not in (None, case.id.rsplit("/slice_", 1)[0])


def _survey(registration: Registration, progress: Progress | None) -> Survey:
    dataset = open_dataset(
        registration.folder,
        layout=registration.layout,
        group_pattern=registration.group_pattern,
    )
    return check_dataset(apply(registration, dataset), progress=progress)


def _has_unexpected_values(survey: Survey) -> bool:
    return any(problem.kind == "unexpected-values" for problem in survey.errors)


def _relabelled(entry: Entry, plain: Dataset, progress: Progress | None) -> LabelMap | None:
    """Labels of a copy of which some masks hold other values than published: the entry's where
    most hold its values, its names on other values where there are two classes, else None, as
    nobody knows which value is which class."""
    labels = check_dataset(plain, progress=progress).labels
    if labels is None or set(labels.values) == set(entry.label_map.values):
        return entry.label_map
    if len(labels.labels) > 2 or len(entry.labels) > 2:
        return None
    named = (
        replace(label, name=published.name)
        for label, published in zip(labels.labels, entry.labels, strict=True)
    )
    return replace(labels, labels=tuple(named))


def _about_labels(entry: Entry, survey: Survey) -> Finding:
    published = _shown(entry.label_map)
    if survey.labels is None:
        return Finding("labels", published, "cannot be told from the masks", "differs")
    found = _shown(survey.labels)
    if set(found.lower().split(", ")) != set(published.lower().split(", ")):
        # A copy that declares its own names of the same values, as MSD does, may spell them so.
        same_values = set(survey.labels.values) == set(entry.label_map.values)
        verdict = "noted" if same_values else _verdict(entry, "labels")
        return Finding("labels", published, found, verdict)
    absent = [problem.found for problem in survey.warnings if problem.kind == "absent-class"]
    if absent:
        return Finding("labels", published, "; ".join(absent), _verdict(entry, "labels"))
    return Finding("labels", published, found, "same")


def _about_counts(entry: Entry, survey: Survey) -> Iterator[Finding]:
    labelled = [case for case in survey.dataset.cases if case.mask is not None]
    count = len({case.image.files[0] for case in labelled})
    if entry.unit == "volumes" and labelled and not any(case.image.place for case in labelled):
        published = "" if entry.images is None else str(entry.images)
        yield Finding("volumes", published, f"{len(labelled)} single slices", "differs")
    else:
        found = count if entry.unit == "volumes" else len(labelled)
        yield _count(entry, "images", entry.images, found, named=entry.unit)
    patients = len({case.patient for case in labelled if case.patient is not None})
    if patients:
        yield _count(entry, "patients", entry.patients, patients)


def _count(
    entry: Entry, field: str, published: int | None, found: int, *, named: str = ""
) -> Finding:
    what = named or field
    if published is None:
        return Finding(what, "", str(found), "noted")
    if found == published:
        return Finding(what, str(published), str(found), "same")
    return Finding(what, str(published), str(found), _verdict(entry, field))


def _about_sizes(entry: Entry, survey: Survey) -> Iterator[Finding]:
    if entry.widths is None or entry.heights is None or not survey.cases:
        return
    sizes = [(facts.width, facts.height) for facts in survey.cases]
    widths, heights = zip(*sizes, strict=True)
    found = _size_words(survey.cases)
    fits = _within(widths, entry.widths) and _within(heights, entry.heights)
    verdict = "same" if fits else _verdict(entry, "widths")
    yield Finding("sizes", f"{entry.size} pixels", found, verdict)


def _within(values: tuple[int, ...], bounds: tuple[int, int]) -> bool:
    return bounds[0] <= min(values) and max(values) <= bounds[1]


def _size_words(cases: tuple[CaseFacts, ...]) -> str:
    widths = sorted({facts.width for facts in cases})
    heights = sorted({facts.height for facts in cases})
    return (
        " x ".join(
            f"{each[0]}" if len(each) == 1 else f"{each[0]}..{each[-1]}"
            for each in (widths, heights)
        )
        + " pixels"
    )


def _about_split(entry: Entry, cases: tuple[Case, ...]) -> Iterator[Finding]:
    if entry.split is None:
        return
    published = ", ".join(f"{count} {part}" for part, count in entry.split.parts.items())
    files: dict[str, set[Path]] = {part: set() for part in SPLITS}
    nowhere = 0
    for case in cases:
        if case.mask is None:
            continue
        if case.split is None:
            nowhere += 1
        else:
            files[case.split].add(case.image.files[0])
    counts = {part: len(paths) for part, paths in files.items() if paths}
    if not counts:
        yield Finding("split", published, "none that medseg can apply; it draws its own", "noted")
        return
    found = ", ".join(f"{count} {part}" for part, count in counts.items())
    if nowhere:
        found += f", {nowhere} in none"
    same = not nowhere and counts == dict(entry.split.parts)
    yield Finding("split", published, found, "same" if same else _verdict(entry, "split"))


def _about_errors(survey: Survey) -> Iterator[Finding]:
    counts = Counter(problem.kind for problem in survey.errors)
    for kind, count in counts.items():
        first = next(problem for problem in survey.errors if problem.kind == kind)
        found = f"{plural(count, 'error')} ({kind}), first: {first.where}: {first.found}"
        yield Finding("problems", "none", found, "differs")


def _verdict(entry: Entry, field: str) -> Verdict:
    return "unsure" if field in entry.unverified else "differs"


def _in_words(finding: Finding) -> str:
    counted = finding.found.isdigit() and finding.published.isdigit()
    if counted and int(finding.found) < int(finding.published):
        words = f"partial copy: {finding.found} of {finding.published} {finding.what}"
    elif finding.published in ("", "none"):
        words = f"{finding.what}: {finding.found}"
    else:
        words = f"{finding.what}: {finding.found} instead of {finding.published}"
    return f"{words} (unverified)" if finding.verdict == "unsure" else words


def _shown(labels: LabelMap) -> str:
    return ", ".join(
        f"{label.name} #{label.value:06x}" if labels.rgb else f"{label.name} {label.value}"
        for label in labels.labels
    )
