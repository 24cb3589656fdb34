from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from medseg.data.sentences import called_by_name, find_sentences, read_sentences
from medseg.errors import DataError

NAMES, CASES = ("polyp", "optic_cup"), {"a", "b"}


def write(folder: Path, content: object) -> Path:
    path = folder / "prompts.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_without_a_file_a_class_is_called_by_its_name() -> None:
    found = called_by_name(NAMES)
    assert found.first == ("polyp", "optic cup")
    assert str(found) == "classes are called by their names: polyp, optic cup"


def test_a_file_speaks_of_the_classes_it_names_and_the_others_keep_their_names(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, {"classes": {"polyp": ["a polyp", " one polyp "]}})
    found = read_sentences(path, NAMES, CASES)
    assert found.classes == {"polyp": ("a polyp", "one polyp"), "optic_cup": ("optic cup",)}
    assert found.first == ("a polyp", "optic cup")
    assert str(found) == f"3 sentences of {path}"


def test_all_sentences_of_a_class_are_drawn_alike(tmp_path: Path) -> None:
    path = write(tmp_path, {"classes": {"polyp": ["a", "b", "c"]}})
    found, random = read_sentences(path, NAMES, CASES), np.random.default_rng(0)
    counts = Counter(found.draw("b", "polyp", random) for _ in range(600))
    assert sorted(counts) == ["a", "b", "c"]
    assert min(counts.values()) > 160


def test_sentences_of_a_case_take_the_place_of_the_class_in_that_case_alone(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, {"cases": {"a": {"polyp": ["two polyps"]}}})
    found, random = read_sentences(path, NAMES, CASES), np.random.default_rng(0)
    said = [found.draw(case, name, random) for case in ("a", "b") for name in NAMES]
    assert said == ["two polyps", "optic cup", "polyp", "optic cup"]
    assert found.first == ("polyp", "optic cup")
    assert str(found) == f"2 sentences, others for 1 case of {path}"


def test_its_hash_is_that_of_what_it_says(tmp_path: Path) -> None:
    says = [{"classes": {"polyp": [word]}} for word in ("one", "two", "one")]
    first, second, third = (
        read_sentences(write(tmp_path, each), NAMES, CASES).sha256 for each in says
    )
    assert first == third != second


def test_it_lies_in_the_folder_of_the_data_or_beside_its_manifest(tmp_path: Path) -> None:
    assert find_sentences(tmp_path) is None
    path = write(tmp_path, {})
    (tmp_path / "manifest.csv").touch()
    assert find_sentences(tmp_path) == find_sentences(tmp_path / "manifest.csv") == path


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{", "cannot be read as JSON"),
        ([], "no object of classes and cases"),
        ({}, "no object of classes and cases"),
        ({"polyp": ["a polyp"]}, "no object of classes and cases"),
        ({"classes": []}, "classes are no object"),
        ({"cases": []}, "cases are no object"),
        ({"classes": {"polpy": ["x"]}}, r"no class 'polpy'.*Did you mean 'polyp'"),
        ({"classes": {"polyp": "a polyp"}}, "'polyp' is no list of sentences"),
        ({"classes": {"polyp": []}}, "'polyp' is no list of sentences"),
        ({"classes": {"polyp": [" "]}}, "'polyp' is no list of sentences"),
        ({"cases": {"c": {"polyp": ["x"]}}}, "a case 'c', which is not there"),
        ({"cases": {"a": {"cup": ["x"]}}}, r"case a: there is no class 'cup'"),
    ],
)
def test_a_file_that_is_no_store_is_an_error_that_names_what_is_wrong(
    content: object, named: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=named):
        read_sentences(write(tmp_path, content), NAMES, CASES)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.json: it cannot be read"):
        read_sentences(tmp_path / "gone.json", NAMES, CASES)
