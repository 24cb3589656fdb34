"""From one dataset to another, without training on it."""

from __future__ import annotations

import math

import numpy as np

from medseg.benchmark.figures.frame import (
    INK,
    MOST_PANELS,
    Drawing,
    finished,
    make_panels,
    mean_of,
    plain,
    write_title,
)
from medseg.benchmark.reading import Results, Score, Task
from medseg.errors import plural


def draw(results: Results) -> Drawing:
    """Train on rows, test on columns: mean Dice, for the best systems."""
    title = "From one dataset to another"
    columns = list(dict.fromkeys(task.test for task in results.tasks))
    if len(columns) < 2:
        return Drawing(
            "zero-shot", title, "", skipped="Only one dataset was scored (--unseen adds others)."
        )
    order = [system for system, _, _ in results.ranking()][:MOST_PANELS]
    rows = list(results.data)
    figure, panels = make_panels(
        len(order), height=1.3 + 0.5 * len(rows), width=max(3.5, 1.2 + 0.75 * len(columns))
    )
    noted = False
    for axes, system in zip(panels, order, strict=False):
        scores = [[results.score(system, Task(row, column)) for column in columns] for row in rows]
        values = np.array([[mean_of(score) for score in line] for line in scores])
        axes.imshow(np.ma.masked_invalid(values), cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for y, row in enumerate(rows):
            for x, column in enumerate(columns):
                score, value = scores[y][x], values[y, x]
                twins = results.twins(Task(row, column))
                mark = f" *{twins.cases}" if twins is not None and twins.cases else ""
                noted |= bool(mark)
                if score is None or math.isnan(value):
                    axes.text(x, y, "-", ha="center", va="center", color=INK)
                    continue
                bounds = _short_bounds(score)
                axes.text(
                    x,
                    y,
                    f"{value:.2f}{mark}{bounds}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    fontweight="bold" if row == column else "normal",
                    color="black" if value > 0.55 else "white",
                )
        axes.set_xticks(
            range(len(columns)),
            [plain(column) for column in columns],
            rotation=25,
            ha="right",
            rotation_mode="anchor",
        )
        axes.set_yticks(range(len(rows)), [plain(row) for row in rows])
        axes.tick_params(length=0)
        axes.set(xlabel="tested on", ylabel="trained on")
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        write_title(axes, system)
    caption = (
        "Mean Dice and its 95 % BCa interval over cases. Bold: the test part of the data trained "
        "on; others were scored without any training on them. -: not scored."
    )
    if noted:
        caption += " *: how many cases of the column are nearly alike to images of the row."
    left = len(results.systems) - len(order)
    if left > 0:
        caption += f" {plural(left, 'system')} of lower rank not shown; the tables have them."
    return finished("zero-shot", title, caption, figure)


def _short_bounds(score: Score) -> str:
    if score.mean.low is None or score.mean.high is None:
        return ""
    return f"\n{score.mean.low:.2f}-{score.mean.high:.2f}"
