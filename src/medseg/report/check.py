"""What `medseg data check` says: a table, plain data, and one HTML file with pictures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from medseg.data.case import IGNORE, Case, Problem
from medseg.data.labels import Snap, read_classes
from medseg.data.overlap import Overlap
from medseg.data.survey import NearPair, Survey
from medseg.errors import DataError, plural
from medseg.files import write_text
from medseg.report import figures
from medseg.report.html import jpeg
from medseg.report.overlay import class_colour, draw_contours, mask_thumbnail, thumbnail, to_rgb
from medseg.report.pages import load_page

PICTURE_SIZE = 192
MOST_PAIRS = 24
MOST_OUTLIERS = 8
_MOST_ERRORS = 10
_MOST_WARNINGS = 3
_MOST_SIZES = 8
_MOST_CLASSES = 6
_MOST_COPIES = 4
_MOST_SITES = 20

_MEANING = {
    "duplicate-image": "The same pixels in several files",
    "same-image-different-masks": "The same pixels, labelled differently",
    "near-duplicate": "Almost the same image: a copy or a neighbouring frame",
    "near-duplicate-in-two-splits": "Almost the same image in two parts of the published split",
    "near-duplicate-between-sets": "The same or almost the same image in two datasets",
    "image-in-two-splits": "The same image in two parts of the published split",
    "patient-in-two-splits": "A patient in two parts of the published split",
    "empty-mask": "Masks that show nothing",
    "all-foreground": "Masks without background",
    "outlier-size": "Images of an unusual size or shape",
    "outlier-intensity": "Images much darker or brighter than the others",
    "outlier-label": "Masks that show much more or less than the others",
    "site-intensity": "Sites whose images differ strongly in brightness",
    "site-label": "Sites that never show what others show",
}


def by_kind(problems: Iterable[Problem]) -> list[list[Problem]]:
    """Problems of one kind together, errors first; otherwise in their order."""
    groups: dict[tuple[str, str], list[Problem]] = defaultdict(list)
    for problem in problems:
        groups[problem.severity, problem.kind].append(problem)
    return sorted(groups.values(), key=lambda group: group[0].severity != "error")


def problem_table(problems: Iterable[Problem]) -> Table:
    """A table for the terminal: of each kind the first problems, and how many more there are."""
    table = Table()
    for column in ("problem", "where", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for group in by_kind(problems):
        first = group[0]
        most = _MOST_ERRORS if first.severity == "error" else _MOST_WARNINGS
        if len(group) == most + 1:
            most += 1
        colour = "red" if first.severity == "error" else "yellow"
        head = Text.assemble((first.severity, colour), f"\n{first.kind}")
        remedy = None
        for problem in group[:most]:
            said = problem.remedy if problem.remedy != remedy else ""
            table.add_row(head, Text(problem.where), Text(problem.found), Text(said))
            head, remedy = Text(""), problem.remedy
        if len(group) > most:
            more = f"... and {len(group) - most} more; --json and -o list all"
            table.add_row("", "", Text(more, style="dim"), "")
        table.add_section()
    return table


def verdict(survey: Survey) -> str:
    """What was checked and how many problems it has, in a line."""
    names = ", ".join(survey.labels.names) if survey.labels else "unknown"
    return (
        f"{len(survey.usable)} usable of {len(survey.dataset.cases)} cases; "
        f"classes: {names}; {'grey' if survey.channels == 1 else 'colour'} images; "
        f"{plural(len(survey.errors), 'error')}, {plural(len(survey.warnings), 'warning')}"
    )


def to_json(surveys: Sequence[Survey], overlaps: Sequence[Overlap]) -> dict[str, Any]:
    """One dataset as :meth:`Survey.to_json` has it; several below ``datasets``, with what they
    have in common below ``between``."""
    if len(surveys) == 1:
        return surveys[0].to_json()
    return {
        "datasets": [survey.to_json() for survey in surveys],
        "between": [
            {
                "first": str(overlap.first.dataset.root),
                "second": str(overlap.second.dataset.root),
                "near_limit": round(overlap.limit, 4),
                "near": [
                    {name: getattr(pair, name) for name in NearPair.__slots__}
                    for pair in overlap.pairs
                ],
            }
            for overlap in overlaps
        ],
    }


def write_check_report(
    path: Path,
    surveys: Sequence[Survey],
    overlaps: Sequence[Overlap] = (),
    *,
    snap: Snap = "auto",
) -> None:
    """Write the HTML report, atomically. Images that it shows are read again.

    Args:
        path: the HTML file.
        surveys: one or more checked datasets.
        overlaps: what they have in common.
        snap: as for :func:`medseg.data.integrity.check_dataset`.

    Raises:
        MedsegError: the file cannot be written.
    """

    template = load_page("check.html")
    albums = {id(survey): _Album(survey, snap) for survey in surveys}
    page = template.render(
        title=", ".join(survey.dataset.root.resolve().name for survey in surveys),
        datasets=[_section(survey, albums[id(survey)]) for survey in surveys],
        overlaps=[
            {
                "first": str(overlap.first.dataset.root),
                "second": str(overlap.second.dataset.root),
                "pairs": _pairs(
                    overlap.pairs, albums[id(overlap.first)], albums[id(overlap.second)]
                ),
                "count": len(overlap.pairs),
            }
            for overlap in overlaps
        ],
        several=len(surveys) > 1,
        meaning=_MEANING,
    )
    write_text(path, page)


class _Album:
    """Pictures of a dataset's cases, each with its mask's outline, made when they are shown."""

    def __init__(self, survey: Survey, snap: Snap) -> None:
        self._survey = survey
        self._snap = snap
        self._cases = {case.id: case for case in survey.dataset.cases}
        self._made: dict[str, str | None] = {}

    def __call__(self, case: str) -> str | None:
        """A data URI; None when the image cannot be read (any more)."""
        if case not in self._made:
            self._made[case] = self._picture(self._cases[case])
        return self._made[case]

    def _picture(self, case: Case) -> str | None:
        try:
            image = case.image.read_image()
        except DataError:
            return None
        picture = thumbnail(to_rgb(image), PICTURE_SIZE)
        labels = self._survey.labels
        if case.mask is not None and labels is not None:
            try:
                classes = read_classes(case.mask, labels, snap=self._snap)
            except DataError:
                return jpeg(picture)
            if classes.shape == image.shape[:2]:
                classes[classes == IGNORE] = 0
                small = mask_thumbnail(classes, PICTURE_SIZE)
                picture = draw_contours(picture, small, labels=labels)
        return jpeg(picture)


def _section(survey: Survey, album: _Album) -> dict[str, Any]:
    labels = survey.labels
    classes = list(labels.foreground if labels else ())
    return {
        "root": str(survey.dataset.root),
        "reason": survey.dataset.reason,
        "sentence": verdict(survey),
        "tiles": _tiles(survey),
        "classes": [
            (label.name, "#{:02x}{:02x}{:02x}".format(*class_colour(index)))
            for index, label in enumerate(classes, start=1)
        ],
        "kinds": by_kind(survey.problems),
        "equal": _equal(survey, album),
        "near": _pairs(survey.near, album, album),
        "near_count": len(survey.near),
        "near_limit": survey.near_limit,
        "outliers": [
            {
                "what": far.what,
                "usual": far.usual,
                "cases": [
                    (case, value, album(case))
                    for case, value in list(far.cases.items())[:MOST_OUTLIERS]
                ],
                "hidden": max(0, len(far.cases) - MOST_OUTLIERS),
            }
            for far in survey.outliers
        ],
        "figures": _figures(survey),
        "sites": _sites(survey),
    }


def _tiles(survey: Survey) -> list[tuple[str, int, bool]]:
    """Name, number and whether it is bad, of what to know first."""
    grouped = Counter(survey.clusters.values())
    alike = [count for count in grouped.values() if count > 1]
    empty = sum(facts.is_empty for facts in survey.cases)
    return [
        ("Cases", len(survey.dataset.cases), False),
        ("Usable", len(survey.usable), False),
        ("Errors", len(survey.errors), bool(survey.errors)),
        ("Warnings", len(survey.warnings), False),
        ("Groups of alike images", len(alike), False),
        ("Empty masks", empty, False),
    ]


def _equal(survey: Survey, album: _Album) -> dict[str, Any]:
    """Groups of images with equal pixels, those with different masks first."""
    groups: dict[str, list[str]] = defaultdict(list)
    for case, content in survey.contents.items():
        groups[content].append(case)
    differ = {
        problem.where for problem in survey.problems if problem.kind == "same-image-different-masks"
    }
    repeated = [group for group in groups.values() if len(group) > 1]
    repeated.sort(key=lambda group: group[0] not in differ)
    shown = []
    for group in repeated[:MOST_PAIRS]:
        pictures = [(case, album(case)) for case in group[:_MOST_COPIES]]
        shown.append((group[0] in differ, pictures, len(group) - len(pictures)))
    return {"groups": shown, "count": len(repeated)}


def _pairs(pairs: Sequence[NearPair], first: _Album, second: _Album) -> list[dict[str, Any]]:
    return [
        {
            "distance": pair.distance,
            "sides": [(pair.first, first(pair.first)), (pair.second, second(pair.second))],
        }
        for pair in pairs[:MOST_PAIRS]
    ]


def _figures(survey: Survey) -> list[Any]:
    from markupsafe import Markup

    root = str(survey.dataset.root)
    sizes = Counter(f"{facts.width} x {facts.height}" for facts in survey.cases)
    drawn = []
    if len(sizes) > 1:
        common = dict(sizes.most_common(_MOST_SIZES))
        rest = sizes.total() - sum(common.values())
        if rest:
            common[f"{len(sizes) - len(common)} other sizes"] = rest
        drawn.append(figures.sizes(common, "Sizes of images (width x height)", salt=root))
    labelled = [facts.pixels for facts in survey.cases if any(facts.pixels)]
    classes = list(survey.labels.foreground if survey.labels else ())
    for index, label in enumerate(classes[:_MOST_CLASSES], start=1):
        shares = [pixels[index] / sum(pixels) for pixels in labelled]
        drawn.append(figures.shares(shares, f"Masks that show {label.name}", salt=root))
    return [Markup(svg) for svg in drawn if svg]


def _sites(survey: Survey) -> list[dict[str, Any]]:
    from markupsafe import Markup

    groups: dict[str, list[Any]] = defaultdict(list)
    for site in survey.sites:
        groups[site.attribute].append(site)
    return [
        {
            "attribute": attribute,
            "sites": sites,
            "classes": list(dict.fromkeys(name for site in sites for name in site.shows)),
            "figure": Markup(
                figures.boxes(
                    {
                        site.name: site.means
                        for site in sorted(sites, key=lambda site: -site.cases)[:_MOST_SITES]
                    },
                    f"Brightness by {attribute}",
                    salt=str(survey.dataset.root),
                )
            ),
        }
        for attribute, sites in groups.items()
    ]
