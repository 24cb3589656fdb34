"""An evaluation as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from medseg.metrics.evaluation import Evaluation
from medseg.metrics.overlap import METRICS
from medseg.metrics.statistics import Interval


def plain_interval(interval: Interval, confidence: float = 0.95) -> str:
    """An interval in words: ``"0.89, 95 % interval 0.86 to 0.91"``."""
    if interval.mean is None:
        return "undefined"
    if interval.low is None or interval.high is None:
        return f"{interval.mean:.2f}, no interval from a single case"
    bounds = f"{interval.low:.2f} to {interval.high:.2f}"
    return f"{interval.mean:.2f}, {100 * confidence:g} % interval {bounds}"


def headline(evaluation: Evaluation, metric: str = "dice") -> str:
    """The result in a sentence, e.g.

    ``"Dice 0.89, 95 % interval 0.86 to 0.91 over 66 cases, 1 failure"``.
    """
    counts = evaluation.counts()
    interval = evaluation.overall[metric]
    parts = [
        f"{METRICS[metric].title} {plain_interval(interval, evaluation.confidence)} "
        f"over {plural(interval.n, 'case')}"
    ]
    if interval.skipped:
        parts.append(f"{interval.skipped} left out as undefined")
    parts.append(plural(counts.failures, "failure") if counts.failures else "no failures")
    return ", ".join(parts)


def plural(count: int, noun: str) -> str:
    """``"1 case"``, ``"2 cases"``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def render(evaluation: Evaluation, most: int = 10) -> RenderableType:
    """The headline, a table of classes by metrics, and what went wrong.

    Args:
        evaluation: what to show.
        most: how many failures and spare predictions are named; all are counted.
    """
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("class")
    for metric in METRICS.values():
        table.add_column(metric.title, justify="right")
    rows: list[tuple[str, Mapping[str, Interval]]] = list(evaluation.classes.items())
    if len(rows) > 1:
        rows.append(("mean over classes", evaluation.overall))
    for name, summary in rows:
        table.add_row(escape(name), *(_cell(summary[metric]) for metric in METRICS))

    counts = evaluation.counts()
    notes = [
        f"empty truths {counts.empty_truths} (empty policy: {evaluation.empty_policy}), "
        f"missed structures {counts.missed}, false alarms {counts.false_alarms}"
    ]
    failures = [f"  {case}: {status}" for case, status in evaluation.failures().items()]
    parts: list[RenderableType] = [
        Text(headline(evaluation), style="bold"),
        Text(""),
        table,
        Text(""),
        Text("\n".join(notes)),
    ]
    if failures:
        title = f"{plural(len(failures), 'case')} without a usable prediction, scored as 0:"
        parts.append(Text("\n".join([title, *_shorten(failures, most)]), style="bold red"))
    if evaluation.extra:
        title = f"{plural(len(evaluation.extra), 'prediction')} without a truth, not scored:"
        spare = [f"  {name}" for name in evaluation.extra]
        parts.append(Text("\n".join([title, *_shorten(spare, most)]), style="yellow"))
    return Group(*parts)


def _cell(interval: Interval) -> str:
    if interval.mean is None:
        return "-"
    if interval.low is None or interval.high is None:
        return f"{interval.mean:.3f}"
    return f"{interval.mean:.3f} [dim]\\[{interval.low:.3f}, {interval.high:.3f}][/dim]"


def _shorten(lines: list[str], most: int) -> list[str]:
    return lines if len(lines) <= most else [*lines[:most], f"  ... and {len(lines) - most} more"]
