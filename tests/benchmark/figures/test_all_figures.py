from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.synthetic import benchmark_folder
from medseg.benchmark.figures import curves, encoders, matrix, pareto, ranks, spider
from medseg.benchmark.figures.frame import Drawing
from medseg.benchmark.reading import Results, Task

GLAS = Task("glas", "glas")
ALONE = {"systems": {"a": 0.8}, "data": ["glas"], "seeds": [0]}


def test_every_figure_is_drawn(drawn: dict[str, Drawing]) -> None:
    assert not [drawing.name for drawing in drawn.values() if drawing.skipped]
    assert {"dice-against-parameters", "dice-against-latency", "spider", "encoders", "zero-shot",
            "curves", "ranks-glas", "ranks-cvc_clinicdb@glas"} <= set(drawn)  # fmt: skip


def test_every_caption_and_axis_says_what_is_shown(drawn: dict[str, Drawing]) -> None:
    for name in ("dice-against-parameters", "encoders", "zero-shot"):
        assert "95 % BCa interval over cases" in drawn[name].caption
    for name in ("dice-against-parameters", "dice-against-latency", "encoders"):
        assert "mean Dice, 95 % interval" in drawn[name].inline
        assert "glas, n = 8" in drawn[name].inline
    assert "HD95, of which less is better, as the smallest mean" in drawn["spider"].caption


@pytest.mark.parametrize(
    ("options", "draw"),
    [
        ({"efficiency": False}, lambda results: pareto.draw(results, "latency")),
        ({"unseen": [], "data": ["glas"]}, matrix.draw),
        ({"systems": {"a": 0.8, "b": 0.7}}, encoders.draw),
        ({"systems": {"a": 0.8, "b": 0.7}}, lambda results: ranks.draw(results, GLAS)),
        ({"failed": [("a", "glas", 0)], **ALONE}, spider.draw),
        ({"failed": [("a", "glas", 0)], **ALONE}, curves.draw),
    ],
)
def test_what_cannot_be_drawn_says_why(
    tmp_path: Path, options: dict[str, Any], draw: Callable[[Results], Drawing]
) -> None:
    drawing = draw(Results.read(benchmark_folder(tmp_path / "out", cases=4, **options)))
    assert drawing.skipped.endswith(".")
    assert not drawing.inline


def test_a_single_case_is_drawn_without_an_interval(tmp_path: Path) -> None:
    results = Results.read(benchmark_folder(tmp_path / "out", cases=1))
    assert not pareto.draw(results, "parameters").skipped
    assert not matrix.draw(results).skipped


def test_names_that_look_like_formulas_are_drawn_as_they_are(tmp_path: Path) -> None:
    systems = {"a$b$": 0.8, "encoder-$x": 0.7, "encoder-y": 0.6}
    results = Results.read(benchmark_folder(tmp_path / "out", systems=systems, cases=4))
    drawn = [pareto.draw(results, "parameters"), encoders.draw(results),
             ranks.draw(results, GLAS), matrix.draw(results)]  # fmt: skip
    assert all("$" in drawing.inline for drawing in drawn)
