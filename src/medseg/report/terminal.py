"""An evaluation as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from medseg.errors import plural
from medseg.metrics.evaluation import Evaluation
from medseg.metrics.panel import METRICS
from medseg.metrics.statistics import Interval
from medseg.report.words import convention, equity, group_caveats, headline, openings


def render(evaluation: Evaluation, most: int = 10) -> RenderableType:
    """The headline, a table of classes by metrics, and what went wrong.

    Args:
        evaluation: what to show.
        most: how many failures and spare predictions are named; all are counted.
    """
    columns: list[tuple[str, Mapping[str, Interval]]] = list(evaluation.classes.items())
    if len(columns) > 1:
        columns.insert(0, ("all, mean", evaluation.overall))
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("")
    for name, _ in columns:
        table.add_column(escape(name), justify="right", min_width=11)
    for name in evaluation.metrics:
        metric = METRICS[name]
        unit = f" [dim]{evaluation.unit}[/dim]" if metric.distance else ""
        table.add_row(f"{metric.title}{unit}", *(_cell(summary[name]) for _, summary in columns))

    counts = evaluation.counts()
    notes = [
        f"empty truths {counts.empty_truths} (empty policy: {evaluation.empty_policy}), "
        f"missed structures {counts.missed}, false alarms {counts.false_alarms}"
    ]
    if evaluation.numbered:
        notes.append(evaluation.numbered.words)
    if rules := convention(evaluation):
        notes.append(rules)
    failures = [f"  {case}: {status}" for case, status in evaluation.failures().items()]
    compared = f"{evaluation.predictions} against {evaluation.truth}"
    parts: list[RenderableType] = [
        *([Text(evaluation.note, style="bold yellow")] if evaluation.note else []),
        *([Text(compared, style="dim")] if evaluation.truth else []),
        *([Text(openings(evaluation), style="dim")] if evaluation.test_openings else []),
        Text(headline(evaluation), style="bold"),
        Text(""),
        table,
        Text(""),
        Text("\n".join(notes)),
    ]
    for attribute in evaluation.groups:
        parts += _groups(evaluation, attribute, most)
    if failures:
        title = (
            f"{plural(len(failures), 'case')} without a usable prediction, with the worst score:"
        )
        parts.append(Text("\n".join([title, *_shorten(failures, most)]), style="bold red"))
    if evaluation.extra:
        title = f"{plural(len(evaluation.extra), 'prediction')} without a truth, not scored:"
        spare = [f"  {name}" for name in evaluation.extra]
        parts.append(Text("\n".join([title, *_shorten(spare, most)]), style="yellow"))
    return Group(*parts)


def _groups(evaluation: Evaluation, attribute: str, most: int) -> list[RenderableType]:
    """Means of the groups of an attribute, over all classes, and how far apart they are; of more
    than ``most`` groups the worst."""
    compared = [
        each for each in evaluation.equity if each.attribute == attribute and each.label is None
    ]
    if not compared:
        found = ", ".join(sorted(set(evaluation.groups[attribute].values())))
        return [Text(f"{attribute}: all cases whose group is known are {found}", style="dim")]
    table = Table(show_edge=False, pad_edge=False)
    table.add_column(escape(attribute))
    table.add_column("cases", justify="right")
    for each in compared:
        table.add_column(METRICS[each.metric].title, justify="right", min_width=11)
    first = compared[0].groups
    shown = list(first)
    if len(shown) > most:
        shown = sorted(shown, key=lambda name: (first[name].mean is None, first[name].mean))[:most]
    for name in shown:
        cells = [_cell(each.groups[name]) for each in compared]
        table.add_row(escape(name), str(first[name].n), *cells)
    if len(first) > most:
        table.add_row(f"... and {len(first) - most} more", "")
    lines = [*map(equity, compared), *group_caveats(compared[0])]
    return [Text(""), table, Text(""), Text("\n".join(filter(None, lines)))]


def _cell(interval: Interval) -> str:
    left_out = f" [yellow]{interval.skipped} left out[/yellow]" if interval.skipped else ""
    if interval.mean is None:
        return f"-{left_out}"
    if interval.low is None or interval.high is None:
        return f"{interval.mean:.3f}{left_out}"
    return f"{interval.mean:.3f} [dim]{interval.low:.3f}-{interval.high:.3f}[/dim]{left_out}"


def _shorten(lines: list[str], most: int) -> list[str]:
    return lines if len(lines) <= most else [*lines[:most], f"  ... and {len(lines) - most} more"]
