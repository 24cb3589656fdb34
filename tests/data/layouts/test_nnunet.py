from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from medseg.data.case import Dataset, Region
from medseg.data.integrity import check_dataset
from medseg.data.layouts import nnunet, open_dataset
from medseg.errors import DataError

from ..builders import disk, noise, save
from .json_values import changed, is_one_line
from .test_folders import kinds, pairs, touch

LABELS = {"background": 0, "tumour": 1}


def declare(root: Path, **keys: Any) -> Path:
    """A dataset.json for PNG files of one channel, changed by ``keys``; None removes one."""
    content = {"channel_names": {"0": "MRI"}, "labels": LABELS, "file_ending": ".png", **keys}
    root.mkdir(parents=True, exist_ok=True)
    kept = {key: value for key, value in content.items() if value is not None}
    (root / "dataset.json").write_text(json.dumps(kept), encoding="utf-8")
    return root


def raw(root: Path, *cases: str, channels: int = 1, part: str = "Tr", **keys: Any) -> Path:
    """An nnU-Net dataset of empty files."""
    names = {str(index): f"T{index}" for index in range(channels)}
    for case in cases:
        touch(root, *(f"images{part}/{case}_{index:04d}.png" for index in range(channels)))
        touch(root, f"labels{part}/{case}.png")
    return declare(root, **{"channel_names": names, **keys})


def messages(found: Dataset) -> str:
    return "\n".join(f"{p.where}: {p.found}" for p in found.problems)


def test_cases_are_read_with_their_masks_and_the_reason_is_told(tmp_path: Path) -> None:
    found = open_dataset(raw(tmp_path, "b", "a_0001"))
    assert pairs(found) == {"a_0001": "a_0001.png", "b": "b.png"}
    assert (found.layout, found.problems) == ("nnunet", ())
    assert "nnU-Net" in found.reason
    assert found.labels is not None
    assert found.labels.names == ("background", "tumour")


def test_the_file_may_be_named_instead_of_the_folder(tmp_path: Path) -> None:
    raw(tmp_path, "a", "b")
    assert open_dataset(tmp_path / "dataset.json").cases == open_dataset(tmp_path).cases


def test_channels_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    found = open_dataset(raw(tmp_path, "a", channels=3))
    names = [path.name for path in found.cases[0].image.files]
    assert names == ["a_0000.png", "a_0001.png", "a_0002.png"]


def test_one_picture_may_hold_all_channels(tmp_path: Path) -> None:
    found = open_dataset(raw(tmp_path, "a", "b", channel_names={"0": "R", "1": "G", "2": "B"}))
    assert [len(case.image.files) for case in found.cases] == [1, 1]
    assert found.problems == ()


def test_the_test_part_is_read_with_and_without_masks(tmp_path: Path) -> None:
    raw(tmp_path, "a", "b")
    raw(tmp_path, "c", "d", part="Ts")
    found = open_dataset(tmp_path)
    assert {case.id: case.split for case in found.cases} == {
        "a": None, "b": None, "c": "test", "d": "test",
    }  # fmt: skip
    assert found.problems == ()
    (tmp_path / "labelsTs/d.png").unlink()
    assert kinds(open_dataset(tmp_path)) == ["unpaired-image"]
    (tmp_path / "labelsTs/c.png").unlink()
    found = open_dataset(tmp_path)
    assert pairs(found) == {"a": "a.png", "b": "b.png", "c": None, "d": None}
    assert found.problems == ()


def test_everything_that_is_missing_or_left_over_is_said_at_once(tmp_path: Path) -> None:
    raw(tmp_path, "a", "b", "c", channels=2, numTraining=7)
    raw(tmp_path, "a", part="Ts", channels=2, numTraining=7)
    (tmp_path / "imagesTr/a_0001.png").unlink()
    (tmp_path / "labelsTr/b.png").unlink()
    touch(tmp_path, "imagesTr/c_0002.png", "imagesTr/notes.txt", "labelsTr/z.png")
    found = open_dataset(tmp_path)
    assert kinds(found) == [
        "case-count",
        "duplicate-case",
        "extra-file",
        "mask-without-image",
        "missing-channel",
        "missing-mask",
    ]
    assert "the case a has no channel 0001 (T1)" in messages(found)
    assert "the case b has no mask" in messages(found)
    assert "numTraining is 7, but there are 3 cases" in messages(found)
    assert "c_0002.png, notes.txt" in messages(found)
    assert pairs(found) == {"c": "c.png"}


def test_spacing_files_of_3d_tiffs_are_no_problem(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/a_0000.tif", "imagesTr/a.json", "imagesTr/._a_0000.tif")
    touch(tmp_path, "labelsTr/a.tif", "labelsTr/a.json")
    assert open_dataset(declare(tmp_path, file_ending=".tif")).problems == ()


def test_regions_make_a_class_of_every_value_and_are_what_is_scored(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    found = open_dataset(raw(tmp_path, "a", labels=labels, regions_class_order=[1, 2, 3])).labels
    assert found is not None
    assert dict(zip(found.names, found.values, strict=True)) == {
        "background": 0, "whole (1)": 1, "core (2)": 2, "enhancing": 3,
    }  # fmt: skip
    assert found.regions == (
        Region("whole", (1, 2, 3)), Region("core", (2, 3)), Region("enhancing", (3,)),
    )  # fmt: skip
    assert found.ignore == 4


def test_labels_are_sorted_by_value_and_gaps_are_warned_of(tmp_path: Path) -> None:
    found = open_dataset(raw(tmp_path, "a", labels={"b": 5, "a": 2, "none": 0}))
    assert found.labels is not None
    assert found.labels.names == ("none", "a", "b")
    assert [(p.severity, p.kind) for p in found.problems] == [("warning", "labels")]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (None, "'labels' is null, not an object"),
        (["a"], "'labels' is a list"),
        ({"0": "background", "1": "x"}, "'0' has the value \"background\""),
        ({"background": 0, "x": True}, "'x' has the value true"),
        ({"background": 0, "x": -1}, "'x' has the value -1"),
        ({"background": 0, "x": 65536}, "'x' has the value 65536"),
        ({"background": 0, "x": 1.0}, "'x' has the value 1.0"),
        ({"background": 0, "x": []}, "'x' has the value an empty list"),
        ({"background": 0, "x": [1, "2"]}, "'x' has the value [1, \"2\"]"),
        ({"background": 0, "x": [1, 1]}, "'x' lists a value twice"),
        ({"background": 0, "x": 1, "y": 1}, "x, y have the same value 1"),
        ({"background": 0, "x": 1, "ignore": 1}, "x, ignore have the same value 1"),
        ({"background": 0, "x": 1, "x ": 2}, "'x' is declared twice"),
        ({"background": 0, " ": 1}, "empty name"),
        ({"background": 0, "all": [0, 1]}, "background, all (0) have the same value 0"),
        ({"x": 1, "y": 2}, "no label stands for 0 alone"),
        ({"background": 0}, "declares 0 labels besides the background"),
        ({"background": 0, "ignore": [1, 2]}, "'ignore' stands for several values"),
    ],
)
def test_labels_that_cannot_be_used_are_explained(
    tmp_path: Path, labels: object, words: str
) -> None:
    raw(tmp_path, "a")
    content = {"channel_names": {"0": "MRI"}, "labels": labels, "file_ending": ".png"}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    found = open_dataset(tmp_path)
    assert found.labels is None
    assert words in messages(found)
    assert {problem.severity for problem in found.problems} == {"error"}


def test_all_wrong_keys_are_named_in_one_error(tmp_path: Path) -> None:
    raw(tmp_path, "a")
    declare(tmp_path, channel_names=["MRI"], file_ending="png", numTraining="8", labels={"x": -1})
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path)
    for words in (
        "'channel_names' is a list", "'file_ending' is \"png\"", "'numTraining' is \"8\"", "-1",
    ):  # fmt: skip
        assert words in caught.value.found
    assert str(tmp_path / "dataset.json") in caught.value.where


@pytest.mark.parametrize("names", [{"1": "T1"}, {"0": "T1", "2": "T2"}, {"0": 3}, {"zero": "T1"}])
def test_channel_numbers_must_count_from_0(tmp_path: Path, names: object) -> None:
    with pytest.raises(DataError, match="the numbers must be 0"):
        open_dataset(raw(tmp_path, "a", channel_names=names))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "holds an empty list, not an object"),
        ("", "not valid JSON"),
        ("[" * 200_000, "nested too deep|not valid JSON"),
        ('{"labels": {"a": ' + "9" * 5000 + "}}", "not valid JSON"),
        ('{"labels": {}, "labels": {}}', "'labels' occurs twice"),
        ("{}", "'channel_names' is null.*'file_ending' is null"),
    ],
)
def test_a_broken_dataset_json_is_explained(tmp_path: Path, text: str, words: str) -> None:
    raw(tmp_path, "a")
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=words):
        open_dataset(tmp_path)


def test_a_dataset_without_images_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no case can be used.*imagesTr.*does not exist"):
        open_dataset(declare(tmp_path))
    touch(tmp_path, "imagesTr/a.png")
    with pytest.raises(DataError, match=r"holds no image.*must hold files such as CASE_0000\.png"):
        open_dataset(tmp_path)


def folds(root: Path, content: object) -> Path:
    (root / "splits_final.json").write_text(json.dumps(content))
    return root


def test_published_folds_are_read(tmp_path: Path) -> None:
    raw(tmp_path, "a", "b", "c")
    raw(tmp_path, "t", part="Ts")
    two = [{"train": ["a", "b"], "val": ["c"]}, {"train": ["c", "b"], "val": ["a"]}]
    found = open_dataset(folds(tmp_path, two))
    assert found.folds == (
        {"a": "train", "b": "train", "c": "val"},
        {"a": "val", "b": "train", "c": "train"},
    )
    assert [case.split for case in found.cases] == [None, None, None, "test"]
    assert "2 published folds" in found.reason


def test_a_single_fold_is_a_published_split(tmp_path: Path) -> None:
    found = open_dataset(folds(raw(tmp_path, "a", "b"), [{"train": ["a"], "val": ["b"]}]))
    assert [case.split for case in found.cases] == ["train", "val"]
    assert found.folds == ({"a": "train", "b": "val"},)


def test_folds_are_found_where_nnunet_keeps_them(tmp_path: Path) -> None:
    root = raw(tmp_path / "nnUNet_raw" / "Dataset001_X", "a", "b")
    kept = tmp_path / "nnUNet_preprocessed" / "Dataset001_X"
    kept.mkdir(parents=True)
    folds(kept, [{"train": ["a"], "val": ["b"]}])
    assert len(open_dataset(root).folds) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "no list"),
        ([], "an empty list"),
        ([3], "fold 0: 'train' is null, not a list of cases"),
        ([{"train": ["a"], "val": "b"}], "fold 0: 'val' is \"b\""),
        ([{"train": ["a", 1], "val": ["b"]}], "fold 0: 'train' is a list"),
        ([{"train": ["a", "z"], "val": ["b"]}], "fold 0: 1 unknown case: z"),
        ([{"train": ["a", "b"], "val": ["b"]}], "fold 0: 1 case in both train and val: b"),
        ([{"train": ["a"], "val": []}], "fold 0: 1 case of imagesTr/ in neither part: b"),
    ],
)
def test_folds_that_cannot_be_used_are_explained(
    tmp_path: Path, content: object, words: str
) -> None:
    found = open_dataset(folds(raw(tmp_path, "a", "b"), content))
    assert words in messages(found)
    assert {problem.severity for problem in found.problems} == {"error"}
    assert found.folds == ()


def test_patients_and_attributes_that_convert_wrote_are_read(tmp_path: Path) -> None:
    ours = {
        "patients": {"a": "p1", "b": 7, "z": "p"},
        "attributes": {"a": {"site": "x", "age": 3}, "b": {"age": None}},
    }
    found = open_dataset(raw(tmp_path, "a", "b", "c", medseg=ours))
    assert [case.patient for case in found.cases] == ["p1", "7", None]
    assert [case.attributes for case in found.cases] == [
        {"site": "x", "age": "3"}, {"age": ""}, {},
    ]  # fmt: skip
    assert kinds(found) == ["unknown-case"]


@pytest.mark.parametrize(
    "ours",
    [
        [],
        {"patients": 3},
        {"patients": {"a": []}},
        {"attributes": []},
        {"attributes": {"a": 3}},
        {"attributes": {"a": {"b": {}}}},
    ],
)
def test_patients_and_attributes_of_another_type_are_errors(tmp_path: Path, ours: object) -> None:
    found = open_dataset(raw(tmp_path, "a", medseg=ours))
    assert [(p.severity, p.kind) for p in found.problems] == [("error", "json-key")]


def test_training_cases_may_be_listed_in_dataset_json(tmp_path: Path) -> None:
    touch(tmp_path, "x/one.png", "x/two.png", "y/mask.png")
    entry = {"images": ["x/one.png", str(tmp_path / "x/two.png")], "label": "y/mask.png"}
    names = {"0": "T1", "1": "T2"}
    found = open_dataset(declare(tmp_path, channel_names=names, dataset={"a": entry}))
    assert pairs(found) == {"a": "mask.png"}
    assert [path.name for path in found.cases[0].image.files] == ["one.png", "two.png"]


def test_wrong_listed_cases_are_all_reported(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    good = {"images": ["a.png"], "label": "a.png"}
    listed = {
        "a": good, "b": 3, "c": {"images": "a.png", "label": 1}, "../d": good,
        "e": {"images": ["a.png", "a.png"], "label": "a.png"},
        "f": {"images": ["no.png"], "label": "a.png"},
    }  # fmt: skip
    found = open_dataset(declare(tmp_path, dataset=listed))
    assert pairs(found) == {"a": "a.png"}
    assert kinds(found) == ["json-key"] * 5 + ["missing-channel", "missing-file"]


FOLDS = [{"train": ["a"], "val": ["b"]}, {"train": ["b"], "val": ["a"]}]
VALID = {
    "channel_names": {"0": "T1"},
    "labels": {"background": 0, "x": [1, 2], "y": 2, "ignore": 3},
    "file_ending": ".png",
    "numTraining": 2,
    "regions_class_order": [1, 2],
    "dataset": {
        case: {"images": [f"imagesTr/{case}_0000.png"], "label": f"labelsTr/{case}.png"}
        for case in "ab"
    },
    "medseg": {"patients": {"a": "p"}, "attributes": {"a": {"b": "c"}}, "ids": {"a": "x/y"}},
}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=changed(VALID), splits=changed({"folds": FOLDS}))
def test_whatever_the_json_holds_only_a_message_comes_out(
    tmp_path: Path, content: object, splits: dict[str, object]
) -> None:
    raw(tmp_path, "a", "b")
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    folds(tmp_path, splits.get("folds"))
    nnunet.recognise(tmp_path)
    try:
        found = nnunet.read(tmp_path)
    except DataError:
        return
    assert all(is_one_line(problem.found) for problem in found.problems)


def test_pictures_with_ignored_pixels_pass_the_check(tmp_path: Path) -> None:
    root = declare(tmp_path / "Dataset001_X", labels={"background": 0, "disk": 1, "ignore": 2})
    names = [f"c{index}" for index in range(6)]
    for index, name in enumerate(names):
        mask = disk(value=1, radius=3 + index % 3)
        mask[:2] = 2
        save(root / f"imagesTr/{name}_0000.png", noise(index, channels=1))
        save(root / f"labelsTr/{name}.png", mask)
    survey = check_dataset(open_dataset(root))
    assert survey.problems == ()
    assert {sum(facts.pixels) for facts in survey.cases} == {14 * 20}


def test_the_folder_above_several_datasets_names_them(tmp_path: Path) -> None:
    raw(tmp_path / "Dataset001_X", "a")
    raw(tmp_path / "Dataset002_Y", "a")
    with pytest.raises(DataError, match="by itself: Dataset001_X/, Dataset002_Y/"):
        open_dataset(tmp_path)
