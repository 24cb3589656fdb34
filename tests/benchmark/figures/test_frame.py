from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from benchmark.synthetic import benchmark_folder
from medseg.benchmark.figures import frame, matrix
from medseg.benchmark.figures.frame import Drawing, styles
from medseg.benchmark.reading import Results


def luminance(colour: str) -> float:
    """Relative luminance of sRGB, 0 to 1 (IEC 61966-2-1)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


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


def test_of_many_tasks_only_the_test_parts_have_panels(tmp_path: Path) -> None:
    out = benchmark_folder(
        tmp_path / "out", systems={"a": 0.8, "b": 0.7}, unseen=["c", "d", "e"], cases=2, seeds=[0]
    )
    results = Results.read(out)
    assert len(results.tasks) == 8
    assert frame.shown_tasks(results) == results.own_tasks


def test_pictures_of_a_page_are_xml_in_its_text_colour(drawn: dict[str, Drawing]) -> None:
    for drawing in drawn.values():
        assert ElementTree.fromstring(drawing.inline).tag.endswith("svg")
        assert "currentColor" in drawing.inline
        assert frame.INK not in drawing.inline


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
    assert matrix.draw(results).inline == matrix.draw(results).inline
