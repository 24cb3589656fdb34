"""Figures of a report as inline SVG that follows the page's light or dark mode."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Drawn in this grey and then handed over to the page's text colour.
_INK = "#123456"
_BLUE = "#0072b2"
_ORANGE = "#e69f00"
_MOST_TICKS = 500


def curve(
    history: Sequence[Mapping[str, Any]], key: str, title: str, *, unit_range: bool = False
) -> str:
    """One quantity of ``metrics.jsonl`` over the epochs; empty when no line has a number for it.

    Args:
        history: the lines, each with ``epoch``.
        key: which quantity.
        title: above the axes.
        unit_range: whether the axis is 0 to 1.
    """
    points = [
        (line["epoch"], float(line[key]))
        for line in history
        if line.get(key) is not None and math.isfinite(float(line[key]))
    ]
    if not points:
        return ""
    figure, axes = _axes(title)
    epochs, values = zip(*points, strict=True)
    marker = "o" if len(points) < 40 else None
    axes.plot(epochs, values, color=_BLUE, linewidth=1.8, marker=marker, markersize=3)
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    if unit_range:
        axes.set_ylim(0, 1)
        best = max(range(len(values)), key=values.__getitem__)
        axes.plot(epochs[best], values[best], "o", color=_ORANGE, markersize=6)
        axes.annotate(
            f"best {values[best]:.3f}",
            (epochs[best], values[best]),
            xytext=(0, -16),
            textcoords="offset points",
            ha="center",
            color=_INK,
        )
    return _svg(figure, key)


def distribution(values: Iterable[float], mean: float | None, title: str) -> str:
    """A histogram of values in 0 to 1, with a tick for every case below it."""
    shown = [value for value in values if not math.isnan(value)]
    figure, axes = _axes(title)
    counts, _, _ = axes.hist(
        shown, bins=[bin_ / 20 for bin_ in range(21)], color=_BLUE, rwidth=0.92
    )
    highest = max(float(counts.max()), 1.0)
    if len(shown) <= _MOST_TICKS:
        axes.plot(shown, [-0.06 * highest] * len(shown), "|", color=_BLUE, markersize=7)
    if mean is not None:
        axes.axvline(mean, color=_ORANGE, linewidth=2)
        left = mean > 0.5
        axes.text(
            mean + (-0.01 if left else 0.01),
            1.05 * highest,
            f"mean {mean:.3f}",
            ha="right" if left else "left",
            color=_INK,
        )
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.12 * highest, 1.18 * highest), ylabel="cases")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= 1.18 * highest])
    return _svg(figure, "distribution")


def sizes(counts: Mapping[str, int], title: str, *, salt: str = "") -> str:
    """Horizontal bars: how many images have each size, the first at the top."""
    figure, axes = _axes(title)
    names = list(counts)[::-1]
    axes.barh(names, [counts[name] for name in names], color=_BLUE, height=0.7)
    axes.grid(visible=False)
    for place, name in enumerate(names):
        axes.annotate(
            f"{counts[name]:,}",
            (counts[name], place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=_INK,
            fontsize=9,
        )
    axes.margins(x=0.12)
    axes.set_xlabel("images")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return _svg(figure, f"sizes {title} {salt}")


def shares(values: Sequence[float], title: str, *, salt: str = "") -> str:
    """A histogram of shares in 0 to 1 on a logarithmic axis in per cent; zeros are left out."""
    shown = [100 * value for value in values if value > 0]
    if not shown:
        return ""
    figure, axes = _axes(title)
    low, high = math.floor(4 * math.log10(min(shown))), math.ceil(4 * math.log10(max(shown)))
    edges = [10 ** (step / 4) for step in range(low, max(high, low + 1) + 1)]
    axes.hist(shown, bins=edges, color=_BLUE, rwidth=0.92)
    axes.set_xscale("log")
    axes.minorticks_off()
    ticks = [10**power for power in range(math.floor(low / 4), math.ceil(high / 4) + 1)]
    axes.set_xticks(ticks, [f"{tick:g} %" for tick in ticks])
    axes.set(xlim=(edges[0] * 0.8, edges[-1] * 1.25), xlabel="share of the image", ylabel="masks")
    axes.yaxis.get_major_locator().set_params(integer=True)
    return _svg(figure, f"shares {title} {salt}")


def boxes(groups: Mapping[str, Sequence[float]], title: str, *, salt: str = "") -> str:
    """Boxes of grey values, 0 to 255: median, quartiles, 5th and 95th percentile of each group."""
    figure, axes = _axes(title)
    figure.set_figheight(1.2 + 0.35 * len(groups))
    names = list(groups)[::-1]
    line = {"color": _INK, "linewidth": 1}
    axes.boxplot(
        [list(groups[name]) for name in names],
        orientation="horizontal",
        tick_labels=[_plain(name) for name in names],
        whis=(5, 95),
        widths=0.55,
        patch_artist=True,
        boxprops={"facecolor": _BLUE, "edgecolor": "none"},
        medianprops={"color": _ORANGE, "linewidth": 2},
        whiskerprops=line,
        capprops=line,
        flierprops={"marker": ".", "markersize": 3, "markeredgecolor": _INK},
    )
    axes.set(xlim=(0, 255), xlabel="mean grey value of an image")
    axes.grid(visible=False, axis="y")
    return _svg(figure, f"boxes {title} {salt}")


def _axes(title: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.0), layout="constrained")
    axes = figure.subplots()
    axes.set_title(_plain(title), loc="left", color=_INK, fontsize=11)
    axes.tick_params(colors=_INK, labelsize=9)
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)
    axes.patch.set_alpha(0)
    axes.grid(axis="y", color=_INK, alpha=0.15, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_INK)
    return figure, axes


def _plain(text: str) -> str:
    """Text in which nothing is taken for a formula."""
    return text.replace("$", r"\$")


def _svg(figure: Any, salt: str) -> str:
    """SVG without prologue, metadata and dates; ids differ between figures by ``salt``."""
    import matplotlib

    text = io.StringIO()
    with (
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}),
        warnings.catch_warnings(),
    ):
        # The page's font shows what the one that text is measured with lacks.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()[text.getvalue().index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="(figure|axes|patch|line2d|text|matplotlib\.axis|xtick|ytick)_\d+"', "", svg)
    return svg.replace(_INK, "currentColor")
