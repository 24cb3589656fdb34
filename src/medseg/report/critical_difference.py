"""The critical-difference plot of mean ranks, in black on any ground.

Source:
    J. Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", J. Mach. Learn.
    Res. 7 (2006), figure 1.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from medseg.errors import MedsegError, plural
from medseg.files import atomic_path

if TYPE_CHECKING:
    from medseg.metrics.compare import Comparison

# In inches.
_WIDTH = 4.4
_ROW = 0.24
_BAR = 0.12
_HEAD = 1.0
# Drawn in this grey and then handed over to the page's text colour.
_INK = "#123456"


def save(comparison: Comparison, path: Path) -> None:
    """Write the plot as ``.png`` or ``.svg``, atomically.

    Raises:
        MedsegError: there are no ranks to draw, or the file cannot be written.
    """
    if comparison.critical_difference is None:
        raise MedsegError(
            path,
            f"{plural(comparison.complete, comparison.unit)} defined for all systems: no ranks to "
            "draw",
            "Score more cases",
        )
    figure = _draw(comparison, "black")
    with atomic_path(path) as part, _plain_text():
        figure.savefig(part, dpi=200, facecolor="white", **_options(path.suffix.lower()[1:]))


def inline(comparison: Comparison) -> str:
    """The plot as SVG for a page, in the page's text colour."""
    text: IO[str] = io.StringIO()
    with _plain_text():
        _draw(comparison, _INK).savefig(text, transparent=True, **_options("svg"))
    text.seek(0)
    svg = re.sub(r"<metadata>.*?</metadata>", "", text.read(), flags=re.DOTALL)
    return svg[svg.index("<svg") :].replace(_INK, "currentColor")


def _draw(comparison: Comparison, ink: str) -> Any:
    from matplotlib.figure import Figure

    systems = sorted(comparison.systems, key=lambda system: system.mean_rank or 0)
    count, limit = len(systems), comparison.critical_difference or 0.0
    ranks = {system.name: system.mean_rank or 0.0 for system in systems}
    left = (count + 1) // 2
    below = _BAR * (len(comparison.groups) + 2)
    height = _HEAD + below + _ROW * left
    figure = Figure(figsize=(_WIDTH, height))
    axes = figure.add_axes((0, 0, 1, 1))
    # In inches from the axis of ranks downwards.
    axes.set(xlim=(1, count), ylim=(_HEAD - height, _HEAD))
    axes.axis("off")
    line: dict[str, Any] = {
        "color": ink,
        "linewidth": 1,
        "clip_on": False,
        "solid_capstyle": "butt",
    }
    text: dict[str, Any] = {"color": ink, "fontsize": 9}
    axes.plot([1, count], [0, 0], **line)
    for tick in range(1, count + 1):
        axes.plot([tick, tick], [0, 0.06], **line)
        axes.text(tick, 0.09, str(tick), ha="center", va="bottom", **text)
    ruler = 0.42
    axes.plot([1, 1 + limit], [ruler, ruler], **{**line, "linewidth": 2})
    for tip in (1, 1 + limit):
        axes.plot([tip, tip], [ruler - 0.04, ruler + 0.04], **line)
    axes.text(1 + limit / 2, ruler + 0.06, f"CD = {limit:.2f}", ha="center", va="bottom", **text)

    over = plural(comparison.complete, comparison.unit)
    title = f"Mean rank by {comparison.title} over {over}; 1 is best"
    axes.text((1 + count) / 2, 0.85, _literal(title), ha="center", va="bottom", **text)

    gap = 0.04 * (count - 1)
    for place, system in enumerate(systems):
        rank, first = ranks[system.name], place < left
        row = place if first else count - 1 - place
        y = -below - _ROW * (row + 0.5)
        end = 1 - gap if first else count + gap
        axes.plot([rank, rank, end], [0, y, y], **line)
        name = _literal(system.name)
        said = f"{name}  {rank:.2f}" if first else f"{rank:.2f}  {name}"
        where = end + (-gap / 2 if first else gap / 2)
        axes.text(where, y, said, ha="right" if first else "left", va="center", **text)
    overhang = 0.01 * (count - 1)
    for place, group in enumerate(comparison.groups):
        y = -_BAR * (place + 1)
        low, high = ranks[group[0]] - overhang, ranks[group[-1]] + overhang
        axes.plot([low, high], [y, y], **{**line, "linewidth": 4})
    return figure


def _literal(text: str) -> str:
    """Text in which nothing is taken for a formula."""
    return text.replace("$", r"\$")


def _options(suffix: str) -> dict[str, Any]:
    date = {"metadata": {"Date": None}} if suffix == "svg" else {}
    return {"format": suffix, "bbox_inches": "tight", "pad_inches": 0.08, **date}


@contextmanager
def _plain_text() -> Iterator[None]:
    """Text as text, the same bytes each time, and no word of characters the font lacks."""
    import matplotlib

    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "critical difference"}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        yield
