"""The picture of an explanation: image, heat map over it, outline of what was explained."""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.explain.explanation import Explanation
from medseg.report.overlay import CLASS_COLOURS, mask_thumbnail, outline, thumbnail, to_rgb

PANEL = 480
"""Longer side of a panel's picture, in pixels."""

_STRENGTH = 0.5
_INCHES, _INCHES_OF_TEXT = 3.8, 9.2
_LINE, _GAP, _BAR = 0.22, 0.1, 0.45
_WARNING = "#a33c00"


def draw(
    image: NDArray[np.uint8],
    explanation: Explanation,
    *,
    name: str = "",
    truth: NDArray[np.bool_] | None = None,
) -> bytes:
    """A PNG of three panels; a map that fails its check says so in words.

    The colours (matplotlib's inferno) grow lighter with the evidence, also in grey and to the
    colour-blind, and lie over the image in grey.

    Args:
        image: (H, W, C) uint8.
        explanation: of that image.
        name: for the title.
        truth: (H, W) bool, where the class truly is: drawn in black and white dashes.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    picture = thumbnail(to_rgb(image), PANEL)
    heat = mask_thumbnail(explanation.map, PANEL)
    grey = np.repeat(picture.mean(axis=2, keepdims=True) / 255, 3, axis=2)
    over = (1 - _STRENGTH) * grey + _STRENGTH * mpl.colormaps["inferno"](heat)[..., :3]
    height, width = picture.shape[:2]

    notes = [textwrap.fill(each, 100) for each in explanation.warnings]
    text = _LINE * (2 + sum(note.count("\n") + 1 for note in notes)) + _GAP
    panel_width, panel_height = (
        max(0.5, _INCHES * side / max(height, width)) for side in (width, height)
    )
    total_width = max(3 * panel_width + 4 * _GAP + _BAR, _INCHES_OF_TEXT)
    total_height = panel_height + text + _LINE + 2 * _GAP
    figure = Figure(figsize=(total_width, total_height), dpi=100)
    _write(figure, [_heading(explanation, name), _scores(explanation)], notes)

    # Placed by hand: matplotlib's own layout takes longer than all the drawing.
    def axes_at(left: float, width: float) -> Any:
        place = (left / total_width, _GAP / total_height)
        return figure.add_axes((*place, width / total_width, panel_height / total_height))

    last = _GAP + 2 * (panel_width + _GAP) + _BAR
    where = "explained region" + ("" if truth is None else ", truth dashed")
    panels = (
        (_GAP, "image", picture),
        (2 * _GAP + panel_width, "evidence", over),
        (last, where, _outlined(picture, explanation, truth)),
    )
    for left, title, shown in panels:
        axes = axes_at(left, panel_width)
        axes.imshow(shown)
        axes.set_title(title, fontsize=9, pad=4)
        axes.set_axis_off()
    scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, 1), "inferno")
    bar = axes_at(2 * (_GAP + panel_width) + 0.05, 0.12)
    figure.colorbar(scale, cax=bar).ax.tick_params(labelsize=7)
    data = io.BytesIO()
    with warnings.catch_warnings():
        # A class or file may be named in a script that matplotlib's font lacks.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()


def _write(figure: Any, lines: list[str], notes: list[str]) -> None:
    """Heading and scores, and below them the warnings, which are bold."""
    width, height = figure.get_size_inches()
    top = height - _GAP
    for index, text in enumerate([*lines, *notes]):
        warns = index >= len(lines)
        figure.text(
            _GAP / width,
            top / height,
            _plain(text),
            va="top",
            fontsize=10 if index == 0 else 9,
            weight="bold" if warns or index == 0 else "normal",
            color=_WARNING if warns else "black",
        )
        top -= _LINE * (text.count("\n") + 1)


def _heading(explanation: Explanation, name: str) -> str:
    how = explanation.method + (f" at {explanation.layer}" if explanation.layer else "")
    start = f"{textwrap.shorten(name, 60)}: " if name else ""
    return f"{start}{textwrap.shorten(explanation.label, 40)}, {how}"


def _scores(explanation: Explanation) -> str:
    faithful, pointing = explanation.faithfulness, explanation.pointing
    return (
        f"deletion {faithful.deletion:.2f} (shuffled {faithful.shuffled_deletion:.2f}) · "
        f"insertion {faithful.insertion:.2f} (shuffled {faithful.shuffled_insertion:.2f}) · "
        f"inside region {_percent(pointing.energy)} of the evidence, {_percent(pointing.area)} of "
        f"the image · sanity check {explanation.check}"
    )


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.0f} %"


def _outlined(
    picture: NDArray[np.uint8], explanation: Explanation, truth: NDArray[np.bool_] | None
) -> NDArray[np.uint8]:
    drawn = picture.copy()
    width = max(1, round(max(picture.shape) / 160))
    if truth is not None:
        line = outline(mask_thumbnail(truth, PANEL), width)
        rows, columns = np.nonzero(line)
        drawn[line] = np.where((rows + columns) // (4 * width) % 2 == 0, 255, 0)[:, None]
    drawn[outline(mask_thumbnail(explanation.region, PANEL), width)] = CLASS_COLOURS[0]
    return drawn


def _plain(text: str) -> str:
    """Text in which nothing is taken for a formula."""
    return text.replace("$", r"\$")
