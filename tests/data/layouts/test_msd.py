from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from medseg.data.layouts import msd, open_dataset
from medseg.errors import DataError

from .json_values import changed, is_one_line
from .test_folders import kinds, pairs, touch
from .test_nnunet import messages


def task(root: Path, *cases: str, tests: tuple[str, ...] = (), **keys: Any) -> Path:
    """A task of the Decathlon with empty files; None removes a key."""
    touch(root, *(f"{kind}Tr/{case}.png" for kind in ("images", "labels") for case in cases))
    touch(root, *(f"imagesTs/{case}.png" for case in tests))
    content = {
        "name": "X",
        "tensorImageSize": "3D",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "numTraining": len(cases),
        "numTest": len(tests),
        "training": [
            {"image": f"./imagesTr/{case}.png", "label": f"./labelsTr/{case}.png"} for case in cases
        ],
        "test": [f"./imagesTs/{case}.png" for case in tests],
        **keys,
    }
    kept = {key: value for key, value in content.items() if value is not None}
    (root / "dataset.json").write_text(json.dumps(kept), encoding="utf-8")
    return root


def test_a_task_is_read_by_its_folder_and_by_its_file(tmp_path: Path) -> None:
    found = open_dataset(task(tmp_path, "b", "a.1", tests=("c",)))
    assert pairs(found) == {"a.1": "a.1.png", "b": "b.png", "c": None}
    assert [case.split for case in found.cases] == [None, None, "test"]
    assert (found.layout, found.problems) == ("msd", ())
    assert "Decathlon" in found.reason
    assert found.labels is not None
    assert found.labels.names == ("background", "Anterior", "Posterior")
    assert found.labels.values == (0, 1, 2)
    assert open_dataset(tmp_path / "dataset.json").cases == found.cases


def test_files_that_macos_left_are_skipped(tmp_path: Path) -> None:
    listed = [
        {"image": "./imagesTr/._a.png", "label": "./labelsTr/._a.png"},
        {"image": "./imagesTr/a.png", "label": "./labelsTr/a.png"},
    ]
    found = open_dataset(task(tmp_path, "a", training=listed, test=["imagesTs/._b.png"], numTest=0))
    assert pairs(found) == {"a": "a.png"}
    assert found.problems == ()


def test_numbered_files_stand_for_a_listed_image(tmp_path: Path) -> None:
    task(tmp_path, "a", "b", modality={"0": "T2", "1": "ADC"})
    for case in "ab":
        (tmp_path / f"imagesTr/{case}.png").unlink()
        touch(tmp_path, f"imagesTr/{case}_0000.png", f"imagesTr/{case}_0001.png")
    found = open_dataset(tmp_path)
    assert [path.name for path in found.cases[0].image.files] == ["a_0000.png", "a_0001.png"]
    assert found.problems == ()
    (tmp_path / "imagesTr/b_0001.png").unlink()
    found = open_dataset(tmp_path)
    assert pairs(found) == {"a": "a.png"}
    assert kinds(found) == ["missing-channel"]
    assert "the case b has no channel ./imagesTr/b_0001.png (ADC)" in messages(found)


def test_missing_files_and_wrong_counts_are_said_at_once(tmp_path: Path) -> None:
    task(tmp_path, "a", "b", "c", tests=("d",), numTraining=4, numTest=True)
    for name in ("imagesTr/a.png", "labelsTr/b.png", "imagesTs/d.png"):
        (tmp_path / name).unlink()
    found = open_dataset(tmp_path)
    assert kinds(found) == ["case-count", "json-key"] + ["missing-file"] * 3
    assert "numTraining is 4, but training lists 3 cases" in messages(found)
    assert "training[0]: ./imagesTr/a.png does not exist" in messages(found)
    assert pairs(found) == {"c": "c.png"}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"modality": "MRI"}, "'modality' is \"MRI\""),
        (
            {"modality": {"1": "MRI"}},
            "not an object of the numbers from 0",
        ),
        ({"labels": None}, "'labels' is null"),
        ({"labels": {"0": "background", "1": ["x"]}}, "'labels.1' is a list, not a name"),
        ({"labels": {"0": "background", "-1": "x"}}, "the label '0' has the value \"background\""),
        ({"numTraining": "1"}, "'numTraining' is \"1\""),
        ({"test": {"image": "x"}}, "'test' is an object, not a list"),
        ({"test": [["x"]]}, "test[0]: is a list, not an object"),
    ],
)
def test_a_key_of_another_type_is_an_error(
    tmp_path: Path, keys: dict[str, Any], words: str
) -> None:
    found = open_dataset(task(tmp_path, "a", **keys))
    assert words in messages(found)
    assert "error" in {problem.severity for problem in found.problems}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"training": 3, "test": None}, "'training' is 3, not a list"),
        ({"training": None, "test": None}, "lists nothing; its keys are"),
        ({"training": [], "test": []}, "no entry can be used"),
    ],
)
def test_a_task_without_cases_is_explained(
    tmp_path: Path, keys: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        open_dataset(task(tmp_path, "a", **keys))


def test_two_entries_of_one_name_are_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "more/a.png")
    listed = [
        {"image": "imagesTr/a.png", "label": "labelsTr/a.png"},
        {"image": "more/a.png", "label": "labelsTr/a.png"},
    ]
    found = open_dataset(task(tmp_path, "a", training=listed, numTraining=2))
    assert kinds(found) == ["duplicate-case"]


VALID = {
    "modality": {"0": "MRI", "1": "T2"},
    "labels": {"0": "background", "1": "x"},
    "numTraining": 1,
    "numTest": 1,
    "training": [{"image": "imagesTr/a.png", "label": "labelsTr/a.png"}],
    "test": ["imagesTs/b.png"],
}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=changed(VALID))
def test_whatever_the_json_holds_only_a_message_comes_out(tmp_path: Path, content: object) -> None:
    task(tmp_path, "a", tests=("b",))
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    msd.recognise(tmp_path)
    try:
        found = msd.read(tmp_path)
    except DataError:
        return
    assert all(is_one_line(problem.found) for problem in found.problems)
