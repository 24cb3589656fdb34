from __future__ import annotations

from pathlib import Path

import pytest

from medseg.benchmark.places import renamed, seen_from, without_folders


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/a/results/out/x.csv", "x.csv"),
        ("/a/data/glas", "../../data/glas"),
        ("/b/glas", "../../../b/glas"),
        ("kvasir-seg", "kvasir-seg"),
    ],
)
def test_a_path_starts_at_the_folder_and_a_name_stays(path: str, seen: str) -> None:
    assert seen_from(Path("/a/results/out"), path) == seen


def test_a_path_on_another_drive_stays_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    def other_drive(*_: object) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr("medseg.benchmark.places.os.path.relpath", other_drive)
    assert seen_from(Path("/a"), "/b/glas") == "/b/glas"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/a/data/glas: 3 cases", "../glas: 3 cases"),
        ("(see '/a/data/glas/images/1.png')", "(see '../glas/images/1.png')"),
        ("/a/data/glas-2 is another", "../glas-2 is another"),
        ("../up/a/data/glas", "../up/a/data/glas"),
        ("/a/data: many", "..: many"),
    ],
)
def test_known_places_are_renamed_the_longest_first(text: str, said: str) -> None:
    assert renamed(text, {"/a/data": "..", "/a/data/glas": "../glas"}) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no file /home/me/scans/1.png", "no file 1.png"),
        ("'/home/me/1.png', line 3", "'1.png', line 3"),
        (r"no file C:\Users\me\1.png", "no file 1.png"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
        ("and/or, 3/4, ../data/glas", "and/or, 3/4, ../data/glas"),
        ("Dice 1 / 2 and /", "Dice 1 / 2 and /"),
    ],
)
def test_of_an_unknown_path_only_the_last_name_is_left(text: str, said: str) -> None:
    assert without_folders(text, {}) == said
