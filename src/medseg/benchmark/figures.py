"""Figures of a benchmark, for print and for its page.

Colours are those of Okabe and Ito, which the colour-blind can tell apart; each system also has a
marker, a hatch and a line style of its own, so that a grey copy can be read too.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from medseg.benchmark.reading import (
    Results,
    Score,
    Task,
    lower_is_better,
    metric_title,
)
from medseg.errors import plural
from medseg.files import atomic_path
from medseg.report import critical_difference

Point = TypeVar("Point")
# Drawn in this grey and then handed over to the page's text colour.
INK = "#1d2531"
# Neighbours differ in lightness. Yellow is left out: it is lost on white.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#56b4e9", "#d55e00", "#cc79a7", "#7f7f7f")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
_HATCHES = ("", "//", "..", "\\\\", "xx", "--", "++", "oo", "||", "**", "OO")
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
_ACROSS = 3
# In inches.
_WIDEST = 12.0
_MOST_ON_SPIDER = 6
_MOST_PANELS = 6
_MOST_CURVES = 10
_DPI = 200


@dataclass(frozen=True)
class Drawing:
    """A figure and what to say of it.

    Attributes:
        name: of its files, without suffix.
        title: for a heading.
        caption: what it shows and how it was scaled.
        inline: HTML for a page, in its text colour.
        write: saves it as the path's suffix says.
        skipped: why there is none, in a sentence; then there is nothing to draw.
    """

    name: str
    title: str
    caption: str
    inline: str = ""
    write: Callable[[Path], None] | None = None
    skipped: str = ""

    def save(self, path: Path) -> None:
        """Write ``.png`` or ``.svg`` on white, atomically.

        Raises:
            MedsegError: the file cannot be written.
        """
        if self.write is not None:
            self.write(path)


class Style(NamedTuple):
    """How a system looks in every figure."""

    colour: str
    marker: str
    hatch: str
    line: Any


def styles(systems: Sequence[str]) -> dict[str, Style]:
    """Of each system; colour and marker together differ for up to 77."""
    return {
        system: Style(
            _COLOURS[place % len(_COLOURS)],
            _MARKERS[place % len(_MARKERS)],
            _HATCHES[place % len(_HATCHES)],
            _LINES[place % len(_LINES)],
        )
        for place, system in enumerate(systems)
    }


def all_figures(results: Results) -> list[Drawing]:
    """Every figure of numbers; those with nothing to show have the reason why."""
    return [
        pareto(results, "parameters"),
        pareto(results, "latency"),
        spider(results),
        encoders(results),
        matrix(results),
        curves(results),
        *(ranks(results, task) for task in shown_tasks(results)),
    ]


def shown_tasks(results: Results) -> tuple[Task, ...]:
    """All tasks, or of many the test parts; the matrix and the tables have the others."""
    return results.tasks if len(results.tasks) <= _MOST_PANELS else results.own_tasks


def pareto(results: Results, against: str) -> Drawing:
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
    figure, panels = _panels(len(points))
    for axes, (task, found) in zip(panels, points.items(), strict=False):
        axes.set_xscale("log")
        for (system, form), (cost, score) in found.items():
            axes.errorbar(
                cost,
                score.mean.mean or 0.0,
                yerr=_error(score),
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
        _title(axes, _headed(task, list(scores.values())))
    drawn = {key for found in points.values() for key in found}
    used = [system for system in results.systems if any(system == name for name, _ in drawn)]
    forms = [form for form in _FORMS if any(form == each for _, each in drawn)]
    _legend(figure, used, look, forms=forms)
    caption = (
        f"Mean Dice with its 95 % BCa interval over cases, against {unit} (logarithmic). Dashed: "
        "the Pareto front, what no other beats in both."
    )
    if len(forms) > 1:
        caption += (
            " Filled: in PyTorch; hollow: the same network in ONNX Runtime, at PyTorch's Dice."
        )
    without = [system for system in results.systems if system not in used]
    if without:
        caption += f" Not shown, because one of the two is not known: {', '.join(without)}."
    return _drawing(name, title, caption, figure)


# What computes a network, to its latency in `Results.efficiency`.
_FORMS = {"PyTorch": "latency_ms_median", "ONNX Runtime": "onnx_latency_ms_median"}


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


def spider(results: Results) -> Drawing:
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
            system: [_value(results.score(system, task)) for task in results.tasks]
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
    figure, panels = _panels(len(webs), polar=True)
    for axes, (name, axes_of, of) in zip(panels, webs, strict=False):
        _web(axes, axes_of, of, look, centre)
        _title(axes, name, pad=18)
    shown = [system for system in order if any(system in of for _, _, of in webs)]
    _legend(figure, shown, look, lines=True)
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
    return _drawing("spider", title, caption, figure)


def encoders(results: Results) -> Drawing:
    """Bars of Dice for networks that differ in their encoder only."""
    title = "Comparison of encoders"
    chosen, tasks = encoder_systems(results), shown_tasks(results)
    if len(chosen) < 2 or not tasks:
        return Drawing(
            "encoders", title, "", skipped="No two encoders were compared (--encoders does that)."
        )
    look = styles(results.systems)
    figure, panels = _panels(len(tasks), height=0.9 + 0.36 * len(chosen))
    for axes, task in zip(panels, tasks, strict=False):
        found = {system: results.score(system, task) for system in chosen}
        for place, (system, score) in enumerate(reversed(found.items())):
            if score is None or score.mean.mean is None:
                axes.text(0.01, place, "no score", va="center", color=INK, fontsize=8)
                continue
            axes.barh(
                place,
                score.mean.mean,
                xerr=_error(score),
                height=0.7,
                color=look[system].colour,
                hatch=look[system].hatch,
                edgecolor=INK,
                linewidth=0.8,
                error_kw={"ecolor": INK, "capsize": 2.5, "elinewidth": 1},
            )
            high = score.mean.high or score.mean.mean
            axes.annotate(
                f"{score.mean.mean:.3f}",
                (high, place),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                color=INK,
                fontsize=8,
            )
        names = [_with_size(results, system) for system in reversed(chosen)]
        axes.set_yticks(range(len(names)), [plain(name) for name in names])
        axes.set(xlim=(0, 1.12), xlabel="mean Dice, 95 % interval")
        axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
        axes.grid(visible=False)
        _title(axes, _headed(task, [score for score in found.values() if score is not None]))
    counts = [count for system in chosen if (count := results.parameters(system))]
    spread = f" ({min(counts) / 1e6:.2f} to {max(counts) / 1e6:.2f} M parameters)" if counts else ""
    caption = (
        "Networks that differ in the block of their encoder, widths chosen for an equal number of "
        f"parameters{spread}. Mean Dice with its 95 % BCa interval over cases; intervals of "
        "systems on the same cases may overlap although the difference is sure: see the pairs."
    )
    return _drawing("encoders", title, caption, figure)


def encoder_systems(results: Results) -> list[str]:
    """The systems that are encoders to compare: ``encoder-...``, and the network they vary."""
    if not any(system.startswith("encoder-") for system in results.systems):
        return []
    return [
        system
        for system in results.systems
        if system.startswith("encoder-") or system == "med2d-segnet"
    ]


def matrix(results: Results) -> Drawing:
    """Train on rows, test on columns: mean Dice, for the best systems."""
    title = "From one dataset to another"
    columns = list(dict.fromkeys(task.test for task in results.tasks))
    if len(columns) < 2:
        return Drawing(
            "zero-shot", title, "", skipped="Only one dataset was scored (--unseen adds others)."
        )
    order = [system for system, _, _ in results.ranking()][:_MOST_PANELS]
    rows = list(results.data)
    figure, panels = _panels(
        len(order), height=1.3 + 0.5 * len(rows), width=max(3.5, 1.2 + 0.75 * len(columns))
    )
    noted = False
    for axes, system in zip(panels, order, strict=False):
        scores = [[results.score(system, Task(row, column)) for column in columns] for row in rows]
        values = np.array([[_value(score) for score in line] for line in scores])
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
        _title(axes, system)
    caption = (
        "Mean Dice and its 95 % BCa interval over cases. Bold: the test part of the data trained "
        "on; others were scored without any training on them. -: not scored."
    )
    if noted:
        caption += " *: how many cases of the column are nearly alike to images of the row."
    left = len(results.systems) - len(order)
    if left > 0:
        caption += f" {plural(left, 'system')} of lower rank not shown; the tables have them."
    return _drawing("zero-shot", title, caption, figure)


def curves(results: Results) -> Drawing:
    """Validation Dice over the epochs of every system, a panel for each dataset."""
    title = "Training curves"
    look = styles(results.systems)
    order = [system for system, _, _ in results.ranking()] or list(results.systems)
    shown = order[:_MOST_CURVES]
    of_data = {
        data: {
            system: bands
            for system in results.systems
            if system in shown and (bands := _bands(results, system, data))
        }
        for data in results.data
    }
    of_data = {data: found for data, found in of_data.items() if found}
    if not of_data:
        return Drawing("curves", title, "", skipped="No training recorded its validation Dice.")
    figure, panels = _panels(len(of_data))
    for axes, (data, found) in zip(panels, of_data.items(), strict=False):
        for system, bands in found.items():
            epochs, lows, means, highs = (list(column) for column in zip(*bands, strict=True))
            style = look[system]
            axes.fill_between(epochs, lows, highs, color=style.colour, alpha=0.2, linewidth=0)
            axes.plot(
                epochs,
                means,
                color=style.colour,
                linestyle=style.line,
                marker=style.marker,
                markersize=4,
                markevery=max(1, len(epochs) // 8),
                linewidth=1.5,
            )
        axes.set(xlabel="epoch", ylabel="validation Dice")
        axes.xaxis.get_major_locator().set_params(integer=True)
        _title(axes, data)
    _legend(
        figure,
        [s for s in results.systems if any(s in of for of in of_data.values())],
        look,
        lines=True,
    )
    caption = (
        "Validation Dice at the network's size: mean over seeds, and a band from the lowest to "
        "the highest seed. A curve ends where the first of its seeds stopped."
    )
    left = len(results.systems) - len(shown)
    if left > 0:
        caption += f" {plural(left, 'system')} of lower rank not shown."
    return _drawing("curves", title, caption, figure)


def ranks(results: Results, task: Task) -> Drawing:
    """The critical-difference plot of one task."""
    name = f"ranks-{task.file}"
    title = f"Ranks on {task.title}"
    comparison = results.comparison(task)
    if comparison is None or comparison.critical_difference is None:
        return Drawing(
            name, title, "", skipped="Ranks are compared from three systems and two cases on."
        )
    return Drawing(
        name,
        title,
        "Bars join systems whose mean ranks are closer than the critical difference (CD) of "
        "Nemenyi's test at alpha 0.05.",
        inline=own_ids(critical_difference.inline(comparison), name),
        write=lambda path: critical_difference.save(comparison, path),
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


def _spokes(results: Results, systems: Sequence[str], task: Task) -> dict[str, list[float]]:
    """Each system's values, 1 is best; distances as the smallest over the own."""
    columns = []
    for metric in results.metrics:
        values = [_value(results.score(system, task, metric)) for system in systems]
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


def _bands(results: Results, system: str, data: str) -> list[tuple[int, float, float, float]]:
    """(epoch, lowest, mean, highest over seeds) of the epochs that all seeds have."""
    histories = [dict(cell.curve) for cell in results.of(system, data) if cell.curve]
    if not histories:
        return []
    common = sorted(set.intersection(*(set(history) for history in histories)))
    bands = []
    for epoch in common:
        values = [history[epoch] for history in histories]
        bands.append((epoch, min(values), sum(values) / len(values), max(values)))
    return bands


def _value(score: Score | None) -> float:
    return math.nan if score is None or score.mean.mean is None else score.mean.mean


def _gaps(values: Sequence[float]) -> bool:
    return any(math.isnan(value) for value in values)


def _error(score: Score) -> Any:
    """Lengths of the error bar downwards and upwards; None without an interval."""
    mean, low, high = score.mean.mean, score.mean.low, score.mean.high
    if mean is None or low is None or high is None:
        return None
    return [[max(0.0, mean - low)], [max(0.0, high - mean)]]


def _short_bounds(score: Score) -> str:
    if score.mean.low is None or score.mean.high is None:
        return ""
    return f"\n{score.mean.low:.2f}-{score.mean.high:.2f}"


def _headed(task: Task, scores: Sequence[Score]) -> str:
    """A panel's title: ``"glas, n = 30"``."""
    counts = sorted({score.mean.n for score in scores})
    said = " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1])))
    name = f"{task.test}, n = {said}"
    return name if task.train == task.test else f"{name}\ntrained on {task.train}"


def _with_size(results: Results, system: str) -> str:
    count = results.parameters(system)
    name = {"med2d-segnet": "Med Block"}.get(system, system.removeprefix("encoder-"))
    return name if count is None else f"{name} ({count / 1e6:.2f} M)"


def _panels(
    count: int, *, height: float = 3.0, width: float = 3.5, polar: bool = False
) -> tuple[Any, list[Any]]:
    """A figure and ``count`` axes in rows, each of ``width`` by ``height`` inches."""
    from matplotlib.figure import Figure

    across = min(count, 2 if count == 4 else _ACROSS, max(1, int(_WIDEST / width)))
    down = math.ceil(count / across)
    figure = Figure(
        figsize=(max(4.6, width * across), (3.4 if polar else height) * down), layout="constrained"
    )
    grid = figure.subplots(
        down, across, squeeze=False, subplot_kw={"projection": "polar"} if polar else None
    )
    panels = list(grid.ravel())
    for axes in panels[count:]:
        axes.remove()
    for axes in panels[:count]:
        axes.tick_params(colors=INK, labelsize=8)
        axes.patch.set_alpha(0)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set_color(INK)
            label.set_size(9)
        axes.set_axisbelow(True)
        if not polar:
            axes.grid(axis="y", color=INK, alpha=0.15, linewidth=0.8)
        for side, spine in axes.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(INK)
    return figure, panels[:count]


def _title(axes: Any, text: str, *, pad: float = 6) -> None:
    axes.set_title(plain(text), loc="left", color=INK, fontsize=10, pad=pad)


def _legend(
    figure: Any,
    systems: Sequence[str],
    look: dict[str, Style],
    *,
    lines: bool = False,
    forms: Sequence[str] = (),
) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            color=look[system].colour,
            linestyle=look[system].line if lines else "none",
            marker=look[system].marker,
            markersize=5 if lines else 7,
            markeredgecolor=look[system].colour if lines else INK,
            label=plain(system),
        )
        for system in systems
    ]
    if len(forms) > 1:
        grey = Style("#7f7f7f", "o", "", "-")
        handles += [
            Line2D([], [], linestyle="none", label=form, **_form(grey, form)) for form in forms
        ]
    across = max(1, min(len(handles), int(figure.get_figwidth() / 1.9)))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=across,
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        handlelength=3 if lines else 1.5,
    )


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


def plain(text: str) -> str:
    """Text in which nothing is taken for a formula."""
    return text.replace("$", r"\$")


def _drawing(name: str, title: str, caption: str, figure: Any) -> Drawing:
    return Drawing(
        name, title, caption, _inline(figure, name), lambda path: save_figure(figure, path, name)
    )


def save_figure(figure: Any, path: Path, salt: str) -> None:
    """Write a figure of matplotlib on white, atomically; the same bytes for the same ``salt``."""
    suffix = path.suffix.lower()[1:]
    metadata = {"Date": None} if suffix == "svg" else {}
    with atomic_path(path) as part, _same_bytes(salt):
        figure.savefig(part, format=suffix, dpi=_DPI, facecolor="white", metadata=metadata)


def _inline(figure: Any, salt: str) -> str:
    """SVG for a page, in the page's text colour, without prologue, metadata and dates."""
    text = io.StringIO()
    with _same_bytes(salt):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()[text.getvalue().index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return own_ids(svg, salt).replace(INK, "currentColor")


def own_ids(svg: str, name: str) -> str:
    """The SVG with ids that no other on a page has, and without those that nothing refers to."""
    for found in set(re.findall(r' id="([^"]*)"', svg)):
        if f"#{found}" in svg:
            svg = svg.replace(f'id="{found}"', f'id="{name}-{found}"')
            svg = re.sub(rf"#{re.escape(found)}(?=[\")])", f"#{name}-{found}", svg)
        else:
            svg = svg.replace(f' id="{found}"', "")
    return svg


@contextmanager
def _same_bytes(salt: str) -> Iterator[None]:
    """Text as text, the same ids each time, and no word of characters that the font lacks."""
    import matplotlib

    with (
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Glyph")
        yield
