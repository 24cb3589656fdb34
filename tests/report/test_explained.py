"""A report can show what the network looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands import medseg


@pytest.fixture(scope="module")
def page(trained: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of a run with four explanations."""
    out = tmp_path_factory.mktemp("explained") / "report.html"
    ran = medseg("evaluate", photos, trained, "--part", "all", "-o", out, "--explain", 4)
    assert ran.code == 0, ran.err
    return out.read_text(encoding="utf-8")


def test_worst_median_and_best_cases_take_turns(page: str) -> None:
    start = page.index("What the network looked at")
    shown = [line for line in page[start:].splitlines() if line.startswith("<figcaption>")][:4]
    assert [line.split(", ")[1] for line in shown] == ["worst", "median", "best", "worst"]


def test_each_has_its_picture_in_the_page_or_a_reason(page: str) -> None:
    assert page.count("data:image/png;base64,") + page.count("<p>Nothing to explain") == 4
    assert "data:image/png;base64," in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_a_report_without_explanations_says_nothing_of_them(
    trained: Path, photos: Path, tmp_path: Path
) -> None:
    assert medseg("evaluate", photos, trained, "-o", tmp_path / "a.html").code == 0
    assert "looked at" not in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_masks_cannot_be_explained(photos: Path, tmp_path: Path) -> None:
    masks = photos / "masks"
    refused = medseg("evaluate", photos, masks, "-o", tmp_path / "a.html", "--explain", 2)
    assert refused.code == 2
    assert "--explain: masks cannot be explained" in refused.message


def test_explanations_need_a_report(trained: Path, photos: Path, tmp_path: Path) -> None:
    refused = medseg("evaluate", photos, trained, "-o", tmp_path / "a.json", "--explain", 2)
    assert refused.code == 2
    assert "--explain: there is no report to show it in. Add -o report.html" in refused.message
