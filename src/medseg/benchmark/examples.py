"""The best, the middle and the worst case of a benchmark's dataset, as the best systems saw it."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.benchmark.figures.frame import INK, Drawing, plain, save_figure
from medseg.benchmark.places import without_folders
from medseg.benchmark.reading import Cell, Results, Task
from medseg.data.case import LabelMap
from medseg.errors import MedsegError
from medseg.metrics.folders import evaluate_folders
from medseg.metrics.tables import read_table
from medseg.report.html import ReportCase, read_cases
from medseg.report.overlay import draw_contours, mask_thumbnail, thumbnail, to_rgb

_MOST_SYSTEMS = 3
_SIDE = 256
_INCHES = 1.7
_TEXT = 0.25
_PAGE_DPI = 110


@dataclass(frozen=True)
class _Seen:
    """What one training made of the chosen cases."""

    system: str
    labels: LabelMap
    cases: Mapping[str, ReportCase]
    dice: Mapping[str, float]


def examples(results: Results, task: Task) -> Drawing:
    """Image, truth and predictions of three cases, chosen by the best-ranked system's Dice.

    The images are read from where the benchmark read them, the masks from its cells. Where they
    are gone, the drawing says so and is none.

    Args:
        results: of a benchmark.
        task: a test part.
    """
    name, title = f"cases-{task.file}", f"Cases of {task.test}"
    if not _entry(results, task).get("show", True):
        reason = f"Images of {task.test} are not shown: its entry in spec.yaml says show: false."
        return Drawing(name, title, "", skipped=reason)
    shown = [
        cell
        for system, _, _ in results.ranking()
        for cell in results.of(system, task.train)[:1]
        if _masks(results, cell).is_dir()
    ][:_MOST_SYSTEMS]
    if not shown:
        return Drawing(name, title, "", skipped=f"No masks of {task.test} were kept to be shown.")
    scores = read_table(shown[0].tables[task.test], "dice").values
    chosen = choose(scores)
    try:
        seen = [_look(results, task, cell, list(chosen.values())) for cell in shown]
    except (MedsegError, ValueError) as error:
        reason = without_folders(str(error), {})
        return Drawing(name, title, "", skipped=f"Cases of {task.test} cannot be shown: {reason}")
    figure = _draw(chosen, seen)
    seeds = ", ".join(f"{cell.system} seed {cell.seed}" for cell in shown)
    caption = (
        f"The case with the best, the median and the worst Dice of {shown[0].system}, one of its "
        f"seeds ({seeds}). Solid: prediction; dashed: truth, under it."
    )
    return Drawing(
        name, title, caption, _inline(figure, title), lambda path: save_figure(figure, path, name)
    )


def choose(scores: Mapping[str, float]) -> dict[str, str]:
    """``best``, ``median`` and ``worst`` to a case id; fewer for fewer than three defined cases."""
    ordered = sorted(
        (case for case, score in scores.items() if not math.isnan(score)),
        key=lambda case: (-scores[case], case),
    )
    if not ordered:
        return {}
    picks: dict[str, str] = {}
    for name, place in (("best", 0), ("median", (len(ordered) - 1) // 2), ("worst", -1)):
        if ordered[place] not in picks.values():
            picks[name] = ordered[place]
    return picks


def _masks(results: Results, cell: Cell) -> Path:
    return results.out / "cells" / cell.system / cell.data / f"seed-{cell.seed}" / "masks"


def _entry(results: Results, task: Task) -> Mapping[str, Any]:
    """Of the specification, what was trained on."""
    found: Mapping[str, Any] = next(
        each for each in results.spec["data"] if each["name"] == task.train
    )
    return found


def _look(results: Results, task: Task, cell: Cell, chosen: Sequence[str]) -> _Seen:
    entry = _entry(results, task)
    path = results.out / entry["path"]
    evaluation = evaluate_folders(
        path if path.exists() else Path(entry["path"]),
        _masks(results, cell),
        layout=entry.get("layout") or "auto",
        metrics=("dice",),
        only=chosen,
    )
    cases = {case.id: case for case in read_cases(evaluation, k=len(chosen))}
    dice = read_table(cell.tables[task.test], "dice").values
    return _Seen(cell.system, evaluation.labels, cases, dice)


def _draw(chosen: Mapping[str, str], seen: Sequence[_Seen]) -> Any:
    from matplotlib.figure import Figure

    heads = ["image", "truth", *(each.system for each in seen)]
    shown = {case: _pictures(case, seen) for case in chosen.values()}
    heights = [_height(pictures[0]) + _TEXT for pictures in shown.values()]
    figure = Figure(figsize=(_INCHES * len(heads), sum(heights) + _TEXT), layout="constrained")
    grid = figure.subplots(len(chosen), len(heads), squeeze=False, height_ratios=heights)
    for place, (kind, case) in enumerate(chosen.items()):
        pictures = shown[case]
        for axes, head, picture in zip(grid[place], heads, pictures, strict=True):
            axes.axis("off")
            if picture is None:
                axes.text(0.5, 0.5, "no prediction", ha="center", color=INK, fontsize=8)
            else:
                axes.imshow(picture)
            if place == 0:
                axes.set_title(plain(head), fontsize=8, color=INK)
        for axes, each in zip(grid[place][2:], seen, strict=True):
            said = f"Dice {each.dice[case]:.3f}" if case in each.dice else ""
            axes.text(0.5, -0.04, said, ha="center", va="top", fontsize=8, color=INK,
                      transform=axes.transAxes)  # fmt: skip
        label = f"{kind}: {case if len(case) <= 24 else case[:23] + '...'}"
        grid[place][0].text(0, -0.04, plain(label), va="top", fontsize=8, color=INK,
                            transform=grid[place][0].transAxes)  # fmt: skip
    return figure


def _pictures(case: str, seen: Sequence[_Seen]) -> list[NDArray[np.uint8] | None]:
    """Image, truth, and what each system predicted; None where there is nothing to show."""
    first = next((each.cases[case] for each in seen if case in each.cases), None)
    if first is None:
        return [None] * (2 + len(seen))
    image = thumbnail(to_rgb(first.image), _SIDE)
    truth = mask_thumbnail(first.truth, _SIDE)
    pictures: list[NDArray[np.uint8] | None] = [
        image,
        draw_contours(image, truth, labels=seen[0].labels),
    ]
    for each in seen:
        found = each.cases.get(case)
        if found is None or found.prediction is None:
            pictures.append(None)
            continue
        claimed = mask_thumbnail(found.prediction, _SIDE)
        pictures.append(draw_contours(image, claimed, truth=truth, labels=each.labels))
    return pictures


def _height(picture: NDArray[np.uint8] | None) -> float:
    """Of a picture that is ``_INCHES`` wide, up to a square."""
    return _INCHES if picture is None else _INCHES * min(1, picture.shape[0] / picture.shape[1])


def _inline(figure: Any, title: str) -> str:
    """The figure as a JPEG in an ``img``: as SVG, photographs would weigh megabytes."""
    from markupsafe import escape
    from PIL import Image

    drawn, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=_PAGE_DPI, facecolor="white")
    with Image.open(drawn) as picture:
        picture.convert("RGB").save(packed, "JPEG", quality=88, subsampling=0)
        width, height = picture.size
    data = base64.b64encode(packed.getvalue()).decode("ascii")
    return (
        f'<img src="data:image/jpeg;base64,{data}" alt="{escape(title)}" '
        f'width="{width}" height="{height}">'
    )
