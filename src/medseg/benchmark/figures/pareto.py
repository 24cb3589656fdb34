"""Dice against what a system costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

from medseg.benchmark.figures.frame import (
    INK,
    Drawing,
    Style,
    draw_legend,
    error_bar,
    finished,
    heading,
    make_panels,
    shown_tasks,
    styles,
    write_title,
)
from medseg.benchmark.reading import Results, Score, Task

Point = TypeVar("Point")
# What computes a network, to its latency in `Results.efficiency`.
_FORMS = {"PyTorch": "latency_ms_median", "ONNX Runtime": "onnx_latency_ms_median"}


def draw(results: Results, against: str) -> Drawing:
    """Dice of each system against what it costs, and the systems that none beats on both.

    Args:
        results: of a benchmark.
        against: ``parameters`` or ``latency``.
    """
    name = f"dice-against-{against}"
    title = f"Dice against {against}"
    look = styles(results.systems)
    points = {task: _points(results, task, against) for task in shown_tasks(results)}
    points = {task: found for task, found in points.items() if found}
    if not points:
        return Drawing(name, title, "", skipped="It is known of no system with a score.")
    unit = "parameters" if against == "parameters" else "median latency, ms"
    figure, panels = make_panels(len(points))
    for axes, (task, found) in zip(panels, points.items(), strict=False):
        axes.set_xscale("log")
        for (system, form), (cost, score) in found.items():
            axes.errorbar(
                cost,
                score.mean.mean or 0.0,
                yerr=error_bar(score),
                ecolor=INK,
                elinewidth=1,
                capsize=2.5,
                linestyle="none",
                zorder=3,
                **_form(look[system], form),
            )
        front = pareto_front({key: (cost, s.mean.mean or 0.0) for key, (cost, s) in found.items()})
        axes.set(xlabel=unit, ylabel="mean Dice, 95 % interval")
        _log_ticks(axes, [cost for cost, _ in found.values()])
        # To the right edge: all below it is dominated.
        xs = [*(found[point][0] for point in front), axes.get_xlim()[1]]
        ys = [found[point][1].mean.mean or 0.0 for point in front]
        axes.step(xs, [*ys, ys[-1]], where="post", color=INK, linestyle="--", lw=1, zorder=1)
        scores = {system: score for (system, _), (_, score) in found.items()}
        write_title(axes, heading(task, list(scores.values())))
    drawn = {key for found in points.values() for key in found}
    used = [system for system in results.systems if any(system == name for name, _ in drawn)]
    forms = [form for form in _FORMS if any(form == each for _, each in drawn)]
    draw_legend(figure, used, look, more=_handles(forms) if len(forms) > 1 else [])
    caption = (
        f"Mean Dice with its 95 % BCa interval over cases, against {unit} (logarithmic). Dashed: "
        "the Pareto front, what no other beats in both."
    )
    if len(forms) > 1:
        caption += (
            " Filled: in PyTorch; hollow: the same network in ONNX Runtime, at PyTorch's Dice."
        )
    windows = [system for system in used if results.efficiency.get(system, {}).get("patch")]
    if against == "latency" and windows:
        caption += (
            f" Of {', '.join(windows)} it is that of a window of a volume, which is no measure "
            "beside that of an image."
        )
    without = [system for system in results.systems if system not in used]
    if without:
        caption += f" Not shown, because one of the two is not known: {', '.join(without)}."
    return finished(name, title, caption, figure)


def pareto_front(points: dict[Point, tuple[float, float]]) -> list[Point]:
    """Names of the points that no other beats: none is as cheap and as good, and better in one.

    Args:
        points: name to (cost, merit).

    Returns:
        From the cheapest on; equal points are all there.
    """
    return sorted(
        (
            name
            for name, (cost, merit) in points.items()
            if not any(
                other_cost <= cost and other >= merit and (other_cost, other) != (cost, merit)
                for other_cost, other in points.values()
            )
        ),
        key=lambda name: points[name],
    )


def _points(
    results: Results, task: Task, against: str
) -> dict[tuple[str, str], tuple[float, Score]]:
    """System and what computes it, to cost and merit; parameters are those of any form."""
    found = {}
    for system in results.systems:
        score = results.score(system, task)
        said = results.efficiency.get(system, {})
        costs = {form: said.get(key) for form, key in _FORMS.items()}
        if against == "parameters":
            costs = {"PyTorch": results.parameters(system)}
        for form, cost in costs.items():
            if cost and score is not None and score.mean.mean is not None:
                found[system, form] = (float(cost), score)
    return found


def _handles(forms: Sequence[str]) -> list[Any]:
    """For the legend, in the grey of no system."""
    from matplotlib.lines import Line2D

    grey = Style("#7f7f7f", "o", "", "-")
    return [Line2D([], [], linestyle="none", label=form, **_form(grey, form)) for form in forms]


def _form(style: Style, form: str) -> dict[str, Any]:
    """How a system's point looks: hollow where ONNX Runtime computes it."""
    if form == "ONNX Runtime":
        return {
            "color": style.colour,
            "marker": style.marker,
            "markerfacecolor": "none",
            "markeredgewidth": 1.8,
            "markersize": 8,
        }
    return {
        "color": INK,
        "marker": style.marker,
        "markerfacecolor": style.colour,
        "markersize": 8,
    }


def _log_ticks(axes: Any, values: Sequence[float]) -> None:
    """Ticks at 1, 2 and 5 times powers of ten, else at both ends; and room beyond them."""
    least, most = min(values), max(values)
    room = max(1.1, (most / least) ** 0.15)
    low, high = least / room, most * room
    steps = [
        digit * 10.0**power
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for digit in (1, 2, 5)
    ]
    ticks = [step for step in steps if low <= step <= high]
    if len(ticks) > 5:
        ticks = [tick for tick in ticks if f"{tick:e}"[0] == "1"]
    if len(ticks) < 2:
        ticks = list(dict.fromkeys((least, most))) if most / least > 1.03 else [least]
    axes.minorticks_off()
    axes.set_xticks(ticks, [_engineering(tick) for tick in ticks])
    axes.set_xlim(low, high)


def _engineering(value: float) -> str:
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"
