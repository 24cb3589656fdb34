"""What all figures of a benchmark share: looks, panels, and how they are written.

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
from typing import Any, NamedTuple

from medseg.benchmark.reading import Results, Score, Task
from medseg.files import atomic_path

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
MOST_PANELS = 6
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


def shown_tasks(results: Results) -> tuple[Task, ...]:
    """All tasks, or of many the test parts; the matrix and the tables have the others."""
    return results.tasks if len(results.tasks) <= MOST_PANELS else results.own_tasks


def make_panels(
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


def write_title(axes: Any, text: str, *, pad: float = 6) -> None:
    axes.set_title(plain(text), loc="left", color=INK, fontsize=10, pad=pad)


def draw_legend(
    figure: Any,
    systems: Sequence[str],
    look: dict[str, Style],
    *,
    lines: bool = False,
    more: Sequence[Any] = (),
) -> None:
    """Name each system's look beneath the panels, and after them ``more`` artists of matplotlib."""
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
    handles += more
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


def heading(task: Task, scores: Sequence[Score]) -> str:
    """A panel's title: ``"glas, n = 30"``."""
    counts = sorted({score.mean.n for score in scores})
    said = " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1])))
    name = f"{task.test}, n = {said}"
    return name if task.train == task.test else f"{name}\ntrained on {task.train}"


def mean_of(score: Score | None) -> float:
    return math.nan if score is None or score.mean.mean is None else score.mean.mean


def error_bar(score: Score) -> Any:
    """Lengths of the error bar downwards and upwards; None without an interval."""
    mean, low, high = score.mean.mean, score.mean.low, score.mean.high
    if mean is None or low is None or high is None:
        return None
    return [[max(0.0, mean - low)], [max(0.0, high - mean)]]


def plain(text: str) -> str:
    """Text in which nothing is taken for a formula."""
    return text.replace("$", r"\$")


def finished(name: str, title: str, caption: str, figure: Any) -> Drawing:
    return Drawing(
        name, title, caption, inline_svg(figure, name), lambda path: save_figure(figure, path, name)
    )


def save_figure(figure: Any, path: Path, salt: str) -> None:
    """Write a figure of matplotlib on white, atomically; the same bytes for the same ``salt``."""
    suffix = path.suffix.lower()[1:]
    metadata = {"Date": None} if suffix == "svg" else {}
    with atomic_path(path) as part, _same_bytes(salt):
        figure.savefig(part, format=suffix, dpi=_DPI, facecolor="white", metadata=metadata)


def inline_svg(figure: Any, salt: str) -> str:
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
