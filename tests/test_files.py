from __future__ import annotations

from pathlib import Path

import pytest

from medseg.errors import MedsegError
from medseg.files import atomic_path, write_text


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_half_of(path: Path, error: BaseException) -> None:
    with atomic_path(path) as part:
        part.write_text("half")
        raise error


def test_text_comes_back_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "a.txt", "größe\n")
    assert (tmp_path / "new" / "a.txt").read_text(encoding="utf-8") == "größe\n"
    assert entries(tmp_path / "new") == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_inside_keeps_the_old_file_and_is_passed_on(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(error):
        write_half_of(path, error())
    assert path.read_text() == "old"
    assert entries(tmp_path) == ["a.txt"]


def test_a_failing_write_names_the_file_and_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(MedsegError, match=r"a\.txt: could not be written \(No space"):
        write_half_of(path, OSError(28, "No space left on device"))
    assert path.read_text() == "old"
    assert entries(tmp_path) == ["a.txt"]


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with atomic_path(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("inner", ["a.txt", "deeper/a.txt"])
def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path, inner: str) -> None:
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(MedsegError, match="could not be written"):
        write_text(tmp_path / "folder" / inner, "text")


def test_a_folder_in_place_of_the_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(MedsegError, match=r"a\.txt: could not be written"):
        write_text(tmp_path / "a.txt", "text")
    assert entries(tmp_path) == ["a.txt"]
