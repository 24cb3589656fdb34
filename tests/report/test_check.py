from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from data.builders import disk, save, scene
from medseg.data.case import Problem
from medseg.data.integrity import check_dataset
from medseg.data.layouts import open_dataset
from medseg.data.overlap import find_overlaps
from medseg.data.survey import Survey
from medseg.report.check import MOST_PAIRS, problem_table, to_json, write_check_report
from report.test_html import Page

NASTY = "<script>alert('x')<!-- & $^$ \"größe 肝\""


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    """24 cases with every kind of thing that is shown, at two sites."""
    root = tmp_path_factory.mktemp("data") / "photos"
    for index in range(24):
        side = 200 if index == 5 else 96
        save(root / "images" / f"{index:03}.png", np.asarray(scene(index, side)))
        save(root / "masks" / f"{index:03}.png", disk((side, side), radius=side * 0.2))
    save(root / "images" / "002.png", np.asarray(scene(1)))
    save(root / "masks" / "002.png", disk((96, 96), radius=9))
    darker = [int(0.9 * value) for value in range(256)]
    save(root / "images" / "004.png", np.asarray(scene(3).point(darker)))
    (root / "images" / "023.png").write_text("no")
    found = open_dataset(root)
    cases = tuple(
        replace(case, attributes={"site": NASTY if index % 2 else "Oslo"})
        for index, case in enumerate(found.cases)
    )
    return check_dataset(replace(found, cases=cases))


def written(path: Path, *surveys: Survey) -> Page:
    write_check_report(path, surveys, find_overlaps(surveys))
    return Page(path.read_text(encoding="utf-8"))


def test_the_report_shows_what_was_found_and_loads_nothing(survey: Survey, tmp_path: Path) -> None:
    page = written(tmp_path / "report.html", survey)
    assert all(source.startswith(("data:image/jpeg;base64,", "#")) for source in page.loads)
    for text in (
        "The same pixels, labelled differently",
        "different masks",
        "Almost the same image",
        "Unlike the others",
        "By site",
        "Oslo",
        "Masks that show foreground",
        "Unreadable image",
        str(survey.dataset.root),
    ):
        assert text in page.shown
    # One pair of equal images, one of nearly equal ones, one outlier.
    assert page.count["img"] == 5
    assert page.count["svg"] == 3
    assert len(set(page.ids)) == len(page.ids)


def test_names_are_escaped(survey: Survey, tmp_path: Path) -> None:
    page = written(tmp_path / "report.html", survey)
    assert NASTY in page.shown
    assert "script" not in page.count


def test_two_datasets_are_shown_with_what_they_share(survey: Survey, tmp_path: Path) -> None:
    root = tmp_path / "other"
    save(root / "images" / "x.png", np.asarray(scene(7)))
    save(root / "masks" / "x.png", disk((96, 96), radius=20))
    page = written(tmp_path / "report.html", survey, check_dataset(open_dataset(root)))
    assert "In both datasets: 1 pair of images" in page.shown
    assert str(root) in page.shown
    assert len(set(page.ids)) == len(page.ids)


def test_an_image_that_is_gone_is_said_to_be(survey: Survey, tmp_path: Path) -> None:
    path = survey.dataset.root / "images" / "005.png"
    content = path.read_bytes()
    path.unlink()
    try:
        assert "cannot be read" in written(tmp_path / "report.html", survey).shown
    finally:
        path.write_bytes(content)


def test_more_pairs_than_fit_are_counted(survey: Survey, tmp_path: Path) -> None:
    many = replace(survey, near=survey.near * (MOST_PAIRS + 3))
    page = written(tmp_path / "report.html", many)
    assert "3 more pairs are not shown" in page.shown


def test_a_dataset_without_usable_cases_has_a_report(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        (tmp_path / "photos" / folder / "1.png").write_text("no")
    page = written(tmp_path / "report.html", check_dataset(open_dataset(tmp_path / "photos")))
    assert "0 usable of 1 cases" in page.shown


def test_several_datasets_in_json_are_a_list_and_what_is_between(survey: Survey) -> None:
    surveys = [survey, survey]
    plain = json.loads(json.dumps(to_json(surveys, find_overlaps(surveys))))
    assert [found["root"] for found in plain["datasets"]] == [str(survey.dataset.root)] * 2
    (between,) = plain["between"]
    assert {"first": "007", "second": "007", "distance": 0.0} in between["near"]
    assert to_json([survey], []) == survey.to_json()


def shown(problems: list[Problem]) -> str:
    console = Console(width=300)
    with console.capture() as captured:
        console.print(problem_table(problems))
    return captured.get()


def test_the_table_groups_kinds_errors_first_and_counts_what_it_leaves_out() -> None:
    warnings = [Problem("warning", "dull", f"w{i}", "is dull", "Look away") for i in range(300)]
    text = shown([*warnings, Problem("error", "broken", "e", "is broken", "Mend it")])
    assert text.index("broken") < text.index("dull")
    assert "... and 297 more; --json and -o list all" in text
    assert text.count("Look away") == 1
    assert len(text.splitlines()) < 15


def test_a_table_leaves_out_no_single_problem() -> None:
    warnings = [Problem("warning", "dull", f"w{i}", "is dull", "Look away") for i in range(4)]
    text = shown(warnings)
    assert "more" not in text
    assert all(problem.where in text for problem in warnings)
