from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmark.synthetic import benchmark_folder
from medseg.benchmark import figures
from medseg.benchmark.figures import Drawing, all_figures, pareto_front, styles
from medseg.benchmark.reading import Results, Task

GLAS = Task("glas", "glas")
ALONE = {"systems": {"a": 0.8}, "data": ["glas"], "seeds": [0]}
POINTS = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=2),
    st.tuples(st.integers(1, 5), st.integers(0, 5)),
    min_size=1,
    max_size=8,
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return Results.read(benchmark_folder(tmp_path_factory.mktemp("bench") / "out", cases=8))


@pytest.fixture(scope="module")
def drawn(results: Results) -> dict[str, Drawing]:
    return {drawing.name: drawing for drawing in all_figures(results)}


def luminance(colour: str) -> float:
    """Relative luminance of sRGB, 0 to 1 (IEC 61966-2-1)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@given(POINTS)
def test_the_front_is_what_no_point_beats(points: dict[str, tuple[float, float]]) -> None:
    def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
        return one[0] <= other[0] and one[1] >= other[1] and one != other

    front = pareto_front(points)
    for name, point in points.items():
        beaten = any(beats(points[other], point) for other in front)
        assert beaten != (name in front)


def test_the_front_goes_from_cheap_to_good() -> None:
    points = {"big": (9.0, 0.9), "small": (1.0, 0.5), "bad": (5.0, 0.4)}
    assert pareto_front(points) == ["small", "big"]


def test_77_systems_all_look_different() -> None:
    look = styles([str(number) for number in range(77)])
    assert len({(style.colour, style.marker) for style in look.values()}) == 77


def test_neighbouring_systems_differ_in_grey_and_in_shape() -> None:
    look = list(styles([str(number) for number in range(8)]).values())
    for one, other in pairwise(look):
        assert abs(luminance(one.colour) - luminance(other.colour)) > 0.05
        assert one.marker != other.marker
        assert one.hatch != other.hatch
        assert one.line != other.line


def test_every_figure_is_drawn(drawn: dict[str, Drawing]) -> None:
    assert not [drawing.name for drawing in drawn.values() if drawing.skipped]
    assert {"dice-against-parameters", "dice-against-latency", "spider", "encoders", "zero-shot",
            "curves", "ranks-glas", "ranks-cvc_clinicdb@glas"} <= set(drawn)  # fmt: skip


def test_of_many_tasks_only_the_test_parts_have_panels(tmp_path: Path) -> None:
    out = benchmark_folder(
        tmp_path / "out", systems={"a": 0.8, "b": 0.7}, unseen=["c", "d", "e"], cases=2, seeds=[0]
    )
    results = Results.read(out)
    assert len(results.tasks) == 8
    assert figures.shown_tasks(results) == results.own_tasks


def test_every_caption_and_axis_says_what_is_shown(drawn: dict[str, Drawing]) -> None:
    for name in ("dice-against-parameters", "encoders", "zero-shot"):
        assert "95 % BCa interval over cases" in drawn[name].caption
    for name in ("dice-against-parameters", "dice-against-latency", "encoders"):
        assert "mean Dice, 95 % interval" in drawn[name].inline
        assert "glas, n = 8" in drawn[name].inline
    assert "HD95, of which less is better, as the smallest mean" in drawn["spider"].caption


def test_latency_in_onnx_runtime_stands_beside_that_in_pytorch(results: Results) -> None:
    found = figures._points(results, GLAS, "latency")
    assert set(found) == {
        *((system, "PyTorch") for system in results.systems),
        *((system, "ONNX Runtime") for system in results.systems if system != "unet"),
    }
    assert found["encoder-plain", "ONNX Runtime"][0] == pytest.approx(2_060_000**0.5 / 80)
    assert "hollow" in figures.pareto(results, "latency").caption
    assert "hollow" not in figures.pareto(results, "parameters").caption


def test_pictures_of_a_page_are_xml_in_its_text_colour(drawn: dict[str, Drawing]) -> None:
    for drawing in drawn.values():
        assert ElementTree.fromstring(drawing.inline).tag.endswith("svg")
        assert "currentColor" in drawing.inline
        assert figures.INK not in drawing.inline


def test_files_are_pictures_on_white(drawn: dict[str, Drawing], tmp_path: Path) -> None:
    drawn["curves"].save(tmp_path / "curves.png")
    drawn["curves"].save(tmp_path / "curves.svg")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
        assert picture.width > 800
    text = (tmp_path / "curves.svg").read_text(encoding="utf-8")
    assert "currentColor" not in text
    assert ElementTree.fromstring(text).tag.endswith("svg")


def test_the_same_results_give_the_same_bytes(results: Results) -> None:
    assert figures.matrix(results).inline == figures.matrix(results).inline


def test_a_distance_is_shown_as_the_best_over_ones_own(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    webs: list[dict[str, list[float]]] = []
    monkeypatch.setattr(figures, "_web", lambda axes, names, of, look, centre: webs.append(of))
    figures.spider(results)
    task, place = results.tasks[0], results.metrics.index("hd95")
    means = {system: results.score(system, task, "hd95") for system in results.systems}
    known = {
        system: score.mean.mean for system, score in means.items() if score and score.mean.mean
    }
    for system, values in webs[0].items():
        assert values[place] == pytest.approx(min(known.values()) / known[system])
    assert max(values[place] for values in webs[0].values()) == 1


def test_a_band_goes_from_the_lowest_to_the_highest_seed(results: Results) -> None:
    # Written as mean - 0.3 / epoch + 0.01 seed.
    epoch, low, mean, high = figures._bands(results, "unet", "glas")[0]
    assert epoch == 1
    assert (low, mean, high) == pytest.approx((0.48, 0.49, 0.50))


def test_alike_images_are_noted_in_the_matrix(drawn: dict[str, Drawing]) -> None:
    assert "*2" in drawn["zero-shot"].inline
    assert "nearly alike" in drawn["zero-shot"].caption


@pytest.mark.parametrize(
    ("options", "draw"),
    [
        ({"efficiency": False}, lambda results: figures.pareto(results, "latency")),
        ({"unseen": [], "data": ["glas"]}, figures.matrix),
        ({"systems": {"a": 0.8, "b": 0.7}}, figures.encoders),
        ({"systems": {"a": 0.8, "b": 0.7}}, lambda results: figures.ranks(results, GLAS)),
        ({"failed": [("a", "glas", 0)], **ALONE}, figures.spider),
        ({"failed": [("a", "glas", 0)], **ALONE}, figures.curves),
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
    assert not figures.pareto(results, "parameters").skipped
    assert not figures.matrix(results).skipped


def test_names_that_look_like_formulas_are_drawn_as_they_are(tmp_path: Path) -> None:
    systems = {"a$b$": 0.8, "encoder-$x": 0.7, "encoder-y": 0.6}
    results = Results.read(benchmark_folder(tmp_path / "out", systems=systems, cases=4))
    drawn = [figures.pareto(results, "parameters"), figures.encoders(results),
             figures.ranks(results, GLAS), figures.matrix(results)]  # fmt: skip
    assert all("$" in drawing.inline for drawing in drawn)


def test_a_system_that_has_no_scores_is_named(tmp_path: Path) -> None:
    failed = [("unet", data, seed) for data in ("dsb2018", "glas") for seed in (0, 1, 2)]
    results = Results.read(benchmark_folder(tmp_path / "out", failed=failed, cases=4))
    assert "not known: unet" in figures.pareto(results, "parameters").caption
    assert results.comparison(GLAS) is not None
