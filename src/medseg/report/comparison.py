"""A comparison of systems in words, as tables, and as one HTML page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from medseg.errors import plural
from medseg.metrics.compare import ALPHA, POWER, Comparison, Difference, SystemScore
from medseg.metrics.paired import DRAWS, EXACT_UNITS
from medseg.report import critical_difference
from medseg.report.pages import load_page

_MOST_PAIRS_IN_WORDS = 6


class Cells(NamedTuple):
    """A table as text.

    Attributes:
        head: the columns' titles.
        rows: as many cells each.
        names: how many columns, from the first, are names; the others are numbers.
        beneath: the columns that a terminal shows beneath the one to their left.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int
    beneath: frozenset[str] = frozenset()


def headline(comparison: Comparison) -> str:
    """What was compared: ``"Dice (higher is better) over 80 cases of 40 patients"``."""
    direction = "lower" if comparison.lower_is_better else "higher"
    label = f" of {comparison.label!r}" if comparison.label is not None else ""
    return (
        f"{comparison.title}{label} ({direction} is better) "
        f"over {_over(comparison.cases, comparison.patients)}"
    )


def verdict(comparison: Comparison, pair: Difference) -> str:
    """What is known of two systems, in a sentence, always with its numbers."""
    by, title = pair.advantage, comparison.title
    left_out = f"; {plural(by.skipped, 'undefined case')} left out" if by.skipped else ""
    if by.mean is None:
        return f"{pair.better} and {pair.other} are both defined on no case{left_out}."
    over = _over(by.n, by.groups)
    if not pair.wins and not pair.losses:
        return f"{pair.better} and {pair.other} score the same on {over}{left_out}."
    if by.low is None or by.high is None or pair.p_holm is None:
        alone = "a single case" if by.n == 1 else f"{by.n} cases of a single patient"
        return (
            f"{pair.better} is ahead of {pair.other} by {number(by.mean)} {title} on "
            f"{alone}{left_out}: too few for an interval or a test."
        )
    widest = max(abs(by.low), abs(by.high))
    gap = f"by {number(by.mean, widest)} {title} ({_bounds(by.low, by.high, widest)})"
    corrected = "Holm-corrected p" if len(comparison.pairs) > 1 else "p"
    p = f"{corrected} {p_value(pair.p_holm)}, over {over}{left_out}."
    if pair.p_holm < ALPHA:
        return f"{pair.better} is better than {pair.other} {gap}, {p}"
    return f"{pair.better} and {pair.other} cannot be told apart: {pair.better} is ahead {gap}, {p}"


def power_note(comparison: Comparison) -> str:
    """How many cases would show the differences that were seen; empty where that is not known."""
    needed = [(pair, f"{pair.needed:,}") for pair in told(comparison) if pair.needed is not None]
    if not needed:
        return ""
    aim = f"with {100 * POWER:g} % power at alpha {ALPHA:g}"
    unit, there = comparison.unit, f"there are {comparison.units:,}"
    if len(comparison.pairs) == 1:
        pair, count = needed[0]
        return (
            f"If {pair.better} is truly ahead by {number(pair.advantage.mean or 0)}, about {count} "
            f"{unit}s would show it {aim}; {there}."
        )
    listed = "; ".join(f"{pair.better} over {pair.other} {count}" for pair, count in needed)
    return (
        f"If the differences seen are the true ones, about so many {unit}s would show each {aim}, "
        f"before correction: {listed}; {there}."
    )


def seed_notes(comparison: Comparison) -> list[str]:
    """How much training again moves each mean, and how much cases differ, kept apart."""
    notes = []
    for system in comparison.systems:
        found = system.variation
        if found is None:
            continue
        whole = found.seed_component + found.case_component + found.rest
        parts = ""
        if whole > 0:
            shares = [found.case_component, found.seed_component, found.rest]
            case, seed, rest = (f"{100 * share / whole:.0f} %" for share in shares)
            parts = f" Of the variance of one score, {case} is the case, {seed} the seed, {rest} "
            parts += "neither."
        notes.append(
            f"{system.name}: from seed to seed ({found.seeds}) the mean has a standard deviation "
            f"of {number(found.seed_sd)}; from case to case ({found.cases:,}) a score has one of "
            f"{number(found.case_sd)}.{parts}"
        )
    return notes


def method_notes(comparison: Comparison) -> list[str]:
    """What the numbers rest on, and what they do not cover."""
    units, unit = comparison.units, comparison.unit
    how = f"all sign patterns up to {EXACT_UNITS} {unit}s, {DRAWS:,} random ones beyond"
    corrected = ", Holm-corrected over all pairs" if len(comparison.pairs) > 1 else ""
    notes = [
        f"Intervals: {100 * comparison.confidence:g} % BCa bootstrap of {unit}s. p: two-sided "
        f"paired permutation test ({how}){corrected}."
    ]
    if comparison.patients is not None:
        notes.append(
            "Patients are resampled and exchanged with all of their cases; Wilcoxon's test and "
            "the ranks take the mean of each patient."
        )
    else:
        notes.append("Cases count as independent: the tables name no patient with several of them.")
    if units > 1 and 2 / 2**units > ALPHA:
        notes.append(
            f"With {plural(units, unit)} no permutation p can be below {2 / 2**units:.2g}: too few "
            f"for alpha {ALPHA:g}."
        )
    if any(len(system.files) > 1 for system in comparison.systems):
        notes.append("Where a system has several seeds, the mean over them of each case is tested.")
    once = [system.name for system in comparison.systems if len(system.files) == 1]
    if once:
        who = "all systems" if len(once) == len(comparison.systems) else ", ".join(once)
        notes.append(
            f"One table of {who}: this compares these predictions and says nothing of training "
            "again (give seeds as NAME=a.csv,b.csv)."
        )
    if comparison.dropped:
        notes.append(f"{plural(comparison.dropped, 'case')} left out: not in all tables.")
    if comparison.complete < units and len(comparison.systems) > 2:
        notes.append(
            f"Ranks rest on the {plural(comparison.complete, unit)} defined for all systems."
        )
    return notes


def rank_note(comparison: Comparison) -> str:
    """Friedman's test and which systems the critical difference cannot tell apart."""
    limit, p = comparison.critical_difference, comparison.friedman
    if limit is None or p is None:
        return ""
    said = (
        f"Ranks over {plural(comparison.complete, comparison.unit)}: Friedman p "
        f"{p_value(p)}; mean ranks less than {limit:.2f} apart (Nemenyi, alpha {ALPHA:g}) "
        "cannot be told apart"
    )
    groups = "; ".join(", ".join(group) for group in comparison.groups)
    return f"{said}: {groups}." if groups else f"{said}: none."


def told(comparison: Comparison) -> list[Difference]:
    """The pairs to be put into words: all, or, of many, those with the best system."""
    pairs = list(comparison.pairs)
    if len(pairs) <= _MOST_PAIRS_IN_WORDS:
        return pairs
    best = comparison.ranked()[0].name
    return [pair for pair in pairs if best in (pair.better, pair.other)]


def system_cells(comparison: Comparison) -> Cells:
    """A row for every system, best first."""
    seeds = any(len(system.files) > 1 for system in comparison.systems)
    head = ["system", "rank", "rank held", comparison.title, "95 % interval", "median", "quartiles"]
    head[4] = f"{100 * comparison.confidence:g} % interval"
    rows = []
    for system in comparison.ranked():
        row = [system.name, *_rank_cells(system), *_value_cells(system)]
        if seeds:
            found = system.variation
            row += [str(len(system.files)), "-" if found is None else number(found.seed_sd)]
        rows.append((*row, str(system.failures)))
    if seeds:
        head += ["seeds", "SD of seeds"]
    beneath = frozenset({"rank held", head[4], "quartiles", "SD of seeds"})
    return Cells((*head, "failures"), tuple(rows), 1, beneath)


def pair_cells(comparison: Comparison) -> Cells:
    """A row for every pair of systems."""
    by_how_much = (f"by {comparison.title}", "interval", "w/t/l", "d_z", "r")
    tests = ("p", "p Holm", "Wilcoxon", "cases", "needed")
    head = ("better", "other", *by_how_much, *tests)
    rows = []
    for pair in comparison.pairs:
        by = pair.advantage
        widest = max(abs(bound or 0.0) for bound in (by.mean, by.low, by.high))
        rows.append(
            (
                pair.better,
                pair.other,
                "-" if by.mean is None else number(by.mean, widest),
                _bounds(by.low, by.high, widest),
                f"{pair.wins}/{pair.ties}/{pair.losses}",
                "-" if pair.d_z is None else f"{pair.d_z:.2f}",
                f"{pair.rank_biserial:.2f}",
                *(_p_cell(p) for p in (pair.p, pair.p_holm, pair.p_wilcoxon_holm)),
                f"{by.n:,}",
                "-" if pair.needed is None else f"{pair.needed:,}",
            )
        )
    beneath = frozenset({"other", "interval", "r", "p Holm", "needed"})
    return Cells(head, tuple(rows), 2, beneath)


LEGEND = (
    "rank held: share of bootstrap resamples in which the system keeps its rank. w/t/l: cases won, "
    "tied and lost by the better system. d_z: mean over standard deviation of the differences. "
    "r: rank-biserial correlation, 1 where the better "
    "system is ahead everywhere. Wilcoxon: p of the signed-rank test, Holm-corrected. needed: "
    "cases (or patients) to see this difference with 80 % power at alpha 0.05, uncorrected. "
    "Sizes of effects, with their intervals, say more than p."
)


def render(comparison: Comparison) -> RenderableType:
    """The comparison for a terminal."""
    return Group(
        Text(headline(comparison), style="bold"),
        Text(""),
        _rich(system_cells(comparison)),
        Text(""),
        *(Text(verdict(comparison, pair), style="bold") for pair in told(comparison)),
        Text(""),
        _rich(pair_cells(comparison)),
        Text(""),
        *(Text(line) for line in _lines(comparison)),
        *(Text(line, style="dim") for line in [*method_notes(comparison), LEGEND]),
    )


def markdown(comparison: Comparison) -> str:
    """The comparison as Markdown."""
    parts = [
        f"# {_md(headline(comparison))}",
        _md_table(system_cells(comparison)),
        _md_list([verdict(comparison, pair) for pair in told(comparison)]),
        _md_table(pair_cells(comparison)),
        _md_list(_lines(comparison)),
        _md_list([*method_notes(comparison), LEGEND]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def html(comparison: Comparison) -> str:
    """The comparison as one HTML page that loads nothing."""
    from markupsafe import Markup

    template = load_page("comparison.html")
    drawn = comparison.critical_difference is not None
    return template.render(
        title=headline(comparison),
        tables=[system_cells(comparison), pair_cells(comparison)],
        verdicts=[verdict(comparison, pair) for pair in told(comparison)],
        lines=_lines(comparison),
        notes=[*method_notes(comparison), LEGEND],
        figure=Markup(critical_difference.inline(comparison)) if drawn else "",
        shares=_share_cells(comparison),
        files=[(system.name, system.files) for system in comparison.systems],
        seed=comparison.seed,
    )


def number(value: float, beside: float | None = None) -> str:
    """Three decimals, more for what would read 0.000, fewer from 10 on.

    Args:
        value: what to write.
        beside: a value whose decimals it takes.
    """
    size = abs(value if beside is None else beside)
    if size >= 10:
        return f"{value:.2f}"
    if size == 0 or size >= 0.01:
        return f"{value:.3f}"
    return f"{value:.{min(8, 1 - math.floor(math.log10(size)))}f}"


def p_value(p: float) -> str:
    """``"= 0.032"``, ``"< 0.001"``."""
    if p < 0.001:
        return "< 0.001"
    return f"= {p:.2g}" if p < 0.995 else "= 1"


def _over(cases: int, patients: int | None) -> str:
    said = plural(cases, "case")
    return said if patients is None else f"{said} of {plural(patients, 'patient')}"


def _lines(comparison: Comparison) -> list[str]:
    lines = [power_note(comparison), rank_note(comparison), *seed_notes(comparison)]
    return [line for line in lines if line]


def _rank_cells(system: SystemScore) -> tuple[str, str]:
    if system.rank is None:
        return "-", "-"
    if system.rank_shares is None:
        return str(system.rank), "-"
    return str(system.rank), f"{100 * system.rank_shares[system.rank - 1]:.0f} %"


def _value_cells(system: SystemScore) -> tuple[str, str, str, str]:
    mean, middle = system.mean, system.spread
    if mean.mean is None or middle is None:
        return "-", "-", "-", "-"
    size = max(abs(mean.mean), abs(middle.median))
    bounds = _bounds(mean.low, mean.high, size)
    quartiles = _bounds(middle.lower, middle.upper, size)
    return number(mean.mean, size), bounds, number(middle.median, size), quartiles


def _bounds(low: float | None, high: float | None, beside: float) -> str:
    if low is None or high is None:
        return "-"
    return f"{number(low, beside)} to {number(high, beside)}"


def _p_cell(p: float | None) -> str:
    return "-" if p is None else p_value(p).removeprefix("= ")


def _share_cells(comparison: Comparison) -> Cells | None:
    """How often each system has each rank in the resamples."""
    ranked = comparison.ranked()
    if any(system.rank_shares is None for system in ranked):
        return None
    places = range(1, len(ranked) + 1)
    rows = tuple(
        (system.name, *(f"{100 * share:.0f} %" for share in system.rank_shares or ()))
        for system in ranked
    )
    return Cells(("share of resamples at rank", *map(str, places)), rows, 1)


def _rich(cells: Cells) -> Table:
    columns = [place for place, name in enumerate(cells.head) if name not in cells.beneath]
    ends = [*columns[1:], len(cells.head)]
    table = Table(show_edge=False, pad_edge=False, show_lines=True)
    for start, end in zip(columns, ends, strict=True):
        side: Literal["left", "right"] = "left" if start < cells.names else "right"
        table.add_column(Text("\n".join(cells.head[start:end])), justify=side, overflow="fold")
    for row in cells.rows:
        table.add_row(
            *(Text("\n".join(row[start:end])) for start, end in zip(columns, ends, strict=True))
        )
    return table


def _md(text: str) -> str:
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def _md_table(cells: Cells) -> str:
    line = ["---" if place < cells.names else "---:" for place in range(len(cells.head))]
    rows = [map(_md, cells.head), line, *(map(_md, row) for row in cells.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _md_list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {_md(line)}" for line in lines)
