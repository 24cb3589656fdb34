from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.data.case import SPLITS, Case, Split
from medseg.data.source import File
from medseg.data.splitfile import data_hash, read_split, write_split
from medseg.errors import DataError, MedsegError


def case(name: str, patient: str | None = None) -> Case:
    return Case(name, File(Path("i.png")), File(Path("m.png")), patient)


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip)


@given(split=st.dictionaries(NAMES, st.sampled_from(SPLITS), min_size=1), patient=st.none() | NAMES)
def test_a_written_split_reads_back(
    tmp_path_factory: pytest.TempPathFactory, split: dict[str, Split], patient: str | None
) -> None:
    path = tmp_path_factory.getbasetemp() / "split.csv"
    hashes = {name: f"{number:016x}" for number, name in enumerate(split)}
    write_split(path, split, [case(name, patient) for name in split], hashes=hashes)
    found = read_split(path)
    assert (found.parts, found.hashes, found.folds) == (split, hashes, ())


def test_the_file_names_patients_and_numbers_clusters_of_two_and_more(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    split: dict[str, Split] = {"b": "test", "a": "train", "d": "val", "c": "train"}
    made = [case("a", "p1"), case("b"), case("c", "p1"), case("d")]
    clusters = {"a": "alone", "b": "x", "c": "y", "d": "x"}
    write_split(path, split, made, clusters=clusters, hashes={"a": "12ab"})
    assert path.read_text() == (
        "case,split,patient,cluster,sha256\na,train,p1,,12ab\nb,test,,1,\nc,train,p1,,\nd,val,,1,\n"
    )


def test_a_file_of_folds_gives_the_parts_of_each(tmp_path: Path) -> None:
    path = tmp_path / "folds.csv"
    split: dict[str, Split] = {"a": "train", "b": "train", "t": "test", "always": "train"}
    made = [case(name) for name in split]
    write_split(path, split, made, folds={"a": 0, "b": 1})
    found = read_split(path)
    assert found.folds == ({"a": "val", "b": "train"}, {"a": "train", "b": "val"})
    placed = {each.id: each.split for each in found.place(made)}
    assert placed == {"a": None, "b": None, "t": "test", "always": "train"}


def test_a_spreadsheet_may_save_it_with_semicolons_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text("\ufeffcase;split;patient\r\na;train;\r\nb;val;\r\n;;\r\n", encoding="utf-8")
    assert read_split(path).parts == {"a": "train", "b": "val"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a split file"),
        ("image,mask\n", "not a split file"),
        ("case,split,patient\na,holdout,\n", "row 2 is 'a,holdout,'"),
        ("case,split,patient\na\n", "row 2 is 'a'"),
        ("case,split,patient\na,train,\na,test,\n", "row 3 lists 'a' again"),
        ("case,split,fold\na,train,one\n", "row 2 is 'a,train,one'"),
        ("case,split,fold\na,train,0\n", "its folds are 0"),
        ("case,split,fold\na,train,0\nb,train,2\n", "its folds are 0, 2"),
        ("case,split,fold\na,train,0\nb,test,1\n", "'b' has a fold and is in test"),
    ],
)
def test_a_bad_split_file_is_explained(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "split.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_split(path)


def test_no_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_split(tmp_path / "split.csv")


@given(content=st.binary() | st.text().map(lambda text: f"case,split,fold\n{text}".encode()))
def test_no_file_whatever_raises_anything_but_an_error_that_says_what_to_do(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    try:
        read_split(path)
    except MedsegError as error:
        assert error.remedy  # noqa: PT017


def test_a_split_of_another_dataset_is_neither_written_nor_placed(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    with pytest.raises(DataError, match="1 case not in the dataset: b"):
        write_split(path, {"b": "train"}, [case("a")])
    write_split(path, {"b": "train"}, [case("b")])
    with pytest.raises(DataError, match="1 case not in the dataset: b"):
        read_split(path).place([case("a")])


def test_cases_that_changed_are_new_or_missing_are_named(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    split: dict[str, Split] = {"a": "train", "b": "val", "c": "test"}
    write_split(path, split, [case(c) for c in split], hashes={"a": "1", "b": "2", "c": "3"})
    file = read_split(path)
    file.check({"a": "1", "b": "2", "c": "3"}, "Restore it")
    with pytest.raises(
        DataError, match=r"changed .*: 1 changed \(a\), 1 new \(d\), 1 missing \(c\)\. Restore it"
    ):
        file.check({"a": "0", "b": "2", "d": "3"}, "Restore it")


def test_a_file_without_hashes_fits_any_data(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text("case,split\na,train\n")
    read_split(path).check({"a": "1", "b": "2"}, "")


def test_one_hash_stands_for_all_ids_and_contents_in_any_order() -> None:
    whole = data_hash({"a": "1", "b": "2"})
    assert whole == data_hash({"b": "2", "a": "1"})
    others = ({"a": "1"}, {"a": "2", "b": "1"}, {"a": "1", "c": "2"}, {})
    assert len({whole, *map(data_hash, others)}) == 5


def test_the_table_is_one_that_csv_readers_take(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    write_split(path, {'a "b", c': "train"}, [case('a "b", c', "p;q")])
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert rows == [
        {"case": 'a "b", c', "split": "train", "patient": "p;q", "cluster": "", "sha256": ""}
    ]
