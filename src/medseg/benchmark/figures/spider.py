"""Metrics and datasets together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from medseg.benchmark.figures.frame import (
    INK,
    Drawing,
    Style,
    draw_legend,
    finished,
    make_panels,
    mean_of,
    plain,
    shown_tasks,
    styles,
    write_title,
)
from medseg.benchmark.reading import Results, Task, lower_is_better, metric_title
from medseg.errors import plural

_MOST_ON_SPIDER = 6


def draw(results: Results) -> Drawing:
    """A spider plot of the best systems over metrics, for each task, and one over tasks."""
    title = "Metrics and datasets together"
    order = [system for system, _, _ in results.ranking()][:_MOST_ON_SPIDER]
    look = styles(results.systems)
    webs: list[tuple[str, list[str], dict[str, list[float]]]] = []
    for task in shown_tasks(results):
        if len(results.metrics) >= 3:
            axes_of = [metric_title(metric) for metric in results.metrics]
            webs.append((task.title.replace(", ", "\n"), axes_of, _spokes(results, order, task)))
    if len(results.tasks) >= 3:
        over = {
            system: [mean_of(results.score(system, task)) for task in results.tasks]
            for system in order
        }
        webs.append(("Mean Dice", [task.title.replace(", ", "\n") for task in results.tasks], over))
    webs = [
        (name, axes_of, {s: v for s, v in of.items() if not _gaps(v)}) for name, axes_of, of in webs
    ]
    webs = [web for web in webs if web[2]]
    if not webs:
        return Drawing(
            "spider", title, "", skipped="A spider plot needs three metrics or three datasets."
        )
    lowest = min(value for _, _, of in webs for values in of.values() for value in values)
    centre = max(0.0, math.floor(10 * lowest - 0.5) / 10)
    figure, panels = make_panels(len(webs), polar=True)
    for axes, (name, axes_of, of) in zip(panels, webs, strict=False):
        _web(axes, axes_of, of, look, centre)
        write_title(axes, name, pad=18)
    shown = [system for system in order if any(system in of for _, _, of in webs)]
    draw_legend(figure, shown, look, lines=True)
    inverted = [metric_title(metric) for metric in results.metrics if lower_is_better(metric)]
    caption = f"Means over cases; the outer ring is 1, the centre {centre:g}."
    if inverted:
        caption += (
            f" {', '.join(inverted)}, of which less is better, as the smallest mean on the "
            "dataset over the system's own: 1 is the best system of that panel, 0.5 has twice its "
            "distance."
        )
    left = len(results.systems) - len(shown)
    if left:
        caption += f" {plural(left, 'system')} not shown: only the best-ranked with all values are."
    return finished("spider", title, caption, figure)


def _spokes(results: Results, systems: Sequence[str], task: Task) -> dict[str, list[float]]:
    """Each system's values, 1 is best; distances as the smallest over the own."""
    columns = []
    for metric in results.metrics:
        values = [mean_of(results.score(system, task, metric)) for system in systems]
        if lower_is_better(metric):
            least = min((value for value in values if not math.isnan(value)), default=math.nan)
            values = [1.0 if value == least else least / value for value in values]
        columns.append(values)
    return {system: [column[place] for column in columns] for place, system in enumerate(systems)}


def _web(
    axes: Any,
    axes_of: Sequence[str],
    of: dict[str, list[float]],
    look: dict[str, Style],
    centre: float,
) -> None:
    angles = np.linspace(0, 2 * np.pi, len(axes_of), endpoint=False)
    axes.set_theta_offset(np.pi / 2)
    axes.set_theta_direction(-1)
    closed = np.append(angles, angles[0])
    for system, values in of.items():
        style = look[system]
        axes.plot(
            closed,
            [*values, values[0]],
            color=style.colour,
            linestyle=style.line,
            marker=style.marker,
            markersize=4,
            linewidth=1.5,
        )
    axes.set_xticks(angles, [plain(name) for name in axes_of], fontsize=8)
    axes.set_ylim(centre, 1)
    ticks = np.linspace(centre, 1, 5)[1:]
    axes.set_yticks(ticks, [f"{tick:.2g}" for tick in ticks], fontsize=7, color=INK)
    axes.set_rlabel_position(180 / len(axes_of))
    axes.grid(visible=True, color=INK, alpha=0.2, linewidth=0.7)
    axes.spines["polar"].set_visible(True)
    axes.spines["polar"].set_alpha(0.3)
    axes.tick_params(axis="x", pad=6)


def _gaps(values: Sequence[float]) -> bool:
    return any(math.isnan(value) for value in values)
