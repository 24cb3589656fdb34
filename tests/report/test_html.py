import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from medseg.data.case import Label, LabelMap
from medseg.data.io import write_mask
from medseg.metrics.cases import score_case
from medseg.metrics.evaluation import Evaluation, summarise
from medseg.metrics.folders import evaluate_folders
from medseg.metrics.panel import DEFAULT_METRICS
from medseg.report.html import ReportCase, pick_cases, read_cases, write_report
from medseg.report.terminal import render
from medseg.report.words import headline

EYE = LabelMap((Label("background", 0), Label("disc", 1), Label("cup", 2)))
NASTY = "<script>alert('x')</script>"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags nest, and collects what a browser would load and what it would show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.count: dict[str, int] = {}
        self.shown = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
                self.loads.append(value or "")
            if name == "id":
                self.ids.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.shown += data


def mask(shift: int = 0) -> NDArray[np.uint8]:
    drawn = np.zeros((32, 40), dtype=np.uint8)
    drawn[6:20, 6 + shift : 20 + shift] = 1
    drawn[10:15, 10 + shift : 15 + shift] = 2
    return drawn


def evaluation(cases: int = 12) -> Evaluation:
    rows = [
        row
        for number in range(cases)
        for row in score_case(mask(), mask(number), EYE, case=f"case {number:02}")
    ]
    return summarise([*rows, *score_case(mask(), None, EYE, case=NASTY)], EYE)


def history() -> list[dict[str, Any]]:
    return [
        {"epoch": epoch, "loss": 1 / epoch, "val_dice": None if epoch % 2 else 1 - 1 / epoch}
        for epoch in range(1, 9)
    ]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    image = np.full((32, 40, 1), 90, dtype=np.uint8)
    write_report(
        path,
        title=f"Eyes {NASTY}",
        evaluation=evaluation(),
        history=history(),
        cases=[
            ReportCase("case 00", image, mask(), mask(), 1.0),
            ReportCase(NASTY, image, mask(), None, 0.0),
        ],
        facts={"Recipe": "med2d", "Cœur & <b>": NASTY},
        note="2 test cases leak into training",
    )
    return path.read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_no_id_occurs_twice(text: str) -> None:
    ids = Page(text).ids
    assert len(ids) == len(set(ids))


def test_nothing_is_loaded_from_outside_the_file(text: str) -> None:
    assert all(load.startswith(("data:", "#")) for load in Page(text).loads)
    assert not re.search(r"url\((?!#)|@import|<!DOCTYPE svg", text)
    namespaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\s\"'<>]+", text)) <= namespaces


def test_a_case_named_like_a_script_is_shown_and_not_run(text: str) -> None:
    page = Page(text)
    assert page.count["script"] == 1
    assert NASTY not in text
    assert NASTY in page.shown


def test_the_note_comes_first_and_the_headline_names_interval_and_failures(text: str) -> None:
    shown = Page(text).shown
    assert shown.index("2 test cases leak") < shown.index("mean Dice")
    assert re.search(r"Dice 0\.\d\d, 95 % interval 0\.\d\d to 0\.\d\d over 13 cases, 1 fail", shown)
    assert "missing prediction" in shown
    assert "not a medical device" in shown


def test_every_case_and_class_has_a_row(text: str) -> None:
    assert len(re.findall(r'<td data-key="', text)) == 13 * 2 * (2 + len(DEFAULT_METRICS))


def test_the_figures_are_curves_and_a_distribution_in_the_pages_own_ink(text: str) -> None:
    assert Page(text).count["svg"] == 3
    assert "currentColor" in text


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_report(tmp_path / name, title="t", evaluation=evaluation(), history=history())
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_report_can_be_written_before_anything_was_evaluated(tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", title="Run", history=[{"epoch": 1, "loss": 0.5}])
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.count["svg"] == 1
    assert "script" not in page.count


def test_a_single_case_has_no_interval_and_says_so() -> None:
    one = summarise(score_case(mask(), mask(2), EYE, case="a"), EYE)
    assert headline(one).endswith("no interval from a single case over 1 case, no failures")


@pytest.mark.parametrize("cases", [0, 1, 2, 4, 12, 30])
def test_best_median_and_worst_are_different_cases_in_the_order_of_their_dice(cases: int) -> None:
    found = evaluation(cases)
    picks, scores = pick_cases(found), found.case_means("dice")
    assert len(set(picks.all())) == len(picks.all())
    assert len(picks.best) == max(1, min(3, (cases + 1) // 3))
    assert scores[picks.best[0]] == max(scores.values())
    if cases:
        assert scores[picks.worst[0]] == min(scores.values())
    ordered = [scores[case] for case in picks.best + picks.median + picks.worst[::-1]]
    assert ordered == sorted(ordered, reverse=True)


def test_cases_are_read_back_from_their_files_and_grey_stands_in_for_an_image(
    tmp_path: Path,
) -> None:
    for name, shift in (("a", 0), ("b", 3)):
        for folder, moved in (("truth", 0), ("predictions", shift)):
            (tmp_path / folder).mkdir(exist_ok=True)
            write_mask(tmp_path / folder / f"{name}.png", mask(moved))
    (tmp_path / "predictions" / "predictions.json").write_text(
        json.dumps({"labels": {"background": 0, "disc": 1, "cup": 2}})
    )
    found = evaluate_folders(tmp_path / "truth", tmp_path / "predictions")
    best, worst = read_cases(found)
    np.testing.assert_array_equal(best.prediction, mask())
    np.testing.assert_array_equal(worst.prediction, mask(3))
    assert len(np.unique(best.image)) == 1
    found.save(tmp_path / "report.html")
    assert Page((tmp_path / "report.html").read_text(encoding="utf-8")).count["img"] == 6


def test_the_terminal_table_names_classes_and_failures_literally() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(render(evaluation()))
    shown = console.export_text()
    assert "disc" in shown
    assert f"{NASTY}: missing prediction" in shown


def by_sex(cases: int, names: str = "fm") -> Evaluation:
    rows = [
        row
        for number in range(cases)
        for row in score_case(mask(), mask(number % len(names)), EYE, case=f"case {number:02}")
    ]
    groups = {row.case: names[int(row.case[-2:]) % len(names)] for row in rows}
    return summarise(rows, EYE, groups={"sex": {**groups, "case 00": NASTY}})


def test_groups_are_shown_with_the_worst_named_literally(tmp_path: Path) -> None:
    evaluation = by_sex(24)
    path = tmp_path / "report.html"
    write_report(path, title="Eyes", evaluation=evaluation)
    shown = " ".join(Page(path.read_text(encoding="utf-8")).shown.split())
    assert "By sex" in shown
    assert "m (worst)" in shown
    assert f"fewer than 10 cases, whose mean says little: {NASTY}" in shown
    assert "Equity-scaled score" in shown


def terminal(evaluation: Evaluation) -> str:
    screen = Console(file=io.StringIO(), width=200, color_system=None)
    screen.print(render(evaluation))
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_the_terminal_shows_each_groups_cases_and_how_far_apart_groups_are() -> None:
    evaluation = by_sex(24)
    text = terminal(evaluation)
    assert re.search(r"\bm +\S? +12 ", text)
    (dice,) = (e for e in evaluation.equity if e.metric == "dice" and e.label is None)
    assert f"worst m, {dice.gap:.3f} below" in text
    assert f"equity-scaled Dice {dice.equity_scaled:.3f}" in text


def test_of_many_groups_the_terminal_shows_the_worst() -> None:
    text = terminal(by_sex(26, "abcdefghijklm"))
    assert "... and 4 more" in text
    assert re.search(r"\bm +\S? +2 ", text)


def test_without_groups_nothing_is_said_of_them(text: str) -> None:
    assert "Groups of patients" not in text
    assert "equity" not in terminal(evaluation()).lower()


def test_the_terminal_says_when_there_is_one_group_alone() -> None:
    evaluation = by_sex(3, "f")
    groups = {"sex": dict.fromkeys(evaluation.case_means("dice"), "f")}
    alone = summarise(evaluation.rows, EYE, groups=groups)
    assert "sex: all cases whose group is known are f" in terminal(alone)
