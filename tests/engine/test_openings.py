from __future__ import annotations

import threading
from pathlib import Path

import pytest

from medseg.engine.openings import OPENINGS, Opening, log_opening, ordinal, read_openings


def test_openings_are_read_back_in_their_order_with_their_time(tmp_path: Path) -> None:
    assert read_openings(tmp_path) == []
    for scored in ("größe", "b\nc"):
        log_opening(tmp_path, Opening(scored, 3, "abc", "def"))
    found = read_openings(tmp_path)
    assert [each["scored"] for each in found] == ["größe", "b\nc"]
    assert found[0]["cases"] == 3
    assert found[0]["time"].endswith("+00:00")
    assert len((tmp_path / OPENINGS).read_text().splitlines()) == 2


def test_a_line_cut_off_counts_and_swallows_no_other(tmp_path: Path) -> None:
    log_opening(tmp_path, Opening("a", 1, "", ""))
    with (tmp_path / OPENINGS).open("a") as file:
        file.write('{"scored": "b')
    log_opening(tmp_path, Opening("c", 1, "", ""))
    assert [each.get("scored") for each in read_openings(tmp_path)] == ["a", None, "c"]


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "null", "\x00\ufffd", "1e999"])
def test_a_damaged_line_is_an_opening(tmp_path: Path, text: str) -> None:
    (tmp_path / OPENINGS).write_text(text + "\n")
    assert read_openings(tmp_path) == [{}]


def test_none_is_lost_when_several_look_at_once(tmp_path: Path) -> None:
    def look() -> None:
        for _ in range(20):
            log_opening(tmp_path, Opening("x" * 500, 1, "", ""))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.get("cases") for each in read_openings(tmp_path)] == [1] * 80


@pytest.mark.parametrize(
    ("count", "word"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (13, "13th"), (22, "22nd")],
)
def test_counts_are_spoken(count: int, word: str) -> None:
    assert ordinal(count) == word
