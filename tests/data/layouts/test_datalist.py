from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from medseg.data.case import Region
from medseg.data.integrity import check_dataset
from medseg.data.layouts import datalist, open_dataset
from medseg.errors import DataError

from ..builders import disk, noise, save
from .json_values import changed, is_one_line, json_values
from .test_folders import kinds, pairs, touch
from .test_nnunet import messages


def listing(root: Path, content: object, name: str = "datalist.json") -> Path:
    """A list beside a.png, b.png, c.png, d.png and their masks."""
    touch(root, *(f"{stem}{end}.png" for stem in "abcd" for end in ("", "_m")))
    (root / name).write_text(json.dumps(content), encoding="utf-8")
    return root / name


def entry(stem: str, **keys: Any) -> dict[str, Any]:
    return {"image": f"{stem}.png", "label": f"{stem}_m.png", **keys}


def test_a_list_is_read_by_its_name_and_by_its_folder(tmp_path: Path) -> None:
    path = listing(tmp_path, {"training": [entry("b"), entry("a")], "testing": [entry("c")]})
    found = open_dataset(path)
    assert pairs(found) == {"a": "a_m.png", "b": "b_m.png", "c": "c_m.png"}
    assert [case.split for case in found.cases] == [None, None, "test"]
    assert (found.layout, found.problems) == ("datalist", ())
    assert "2 for training, 1 for testing" in found.reason
    assert open_dataset(tmp_path).cases == found.cases


def test_a_list_for_validation_makes_a_published_split(tmp_path: Path) -> None:
    content = {"training": [entry("a")], "validation": [entry("b")], "test": ["c.png"]}
    found = open_dataset(listing(tmp_path, content))
    assert [case.split for case in found.cases] == ["train", "val", "test"]
    assert pairs(found)["c"] is None
    assert found.problems == ()


def test_several_files_of_an_image_are_its_channels(tmp_path: Path) -> None:
    found = open_dataset(listing(tmp_path, {"training": [entry("a", image=["b.png", "a.png"])]}))
    assert [path.name for path in found.cases[0].image.files] == ["b.png", "a.png"]


def test_paths_may_be_absolute_or_lead_elsewhere(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/x.nii.gz", "elsewhere/y.png")
    entries = [
        {"image": "../elsewhere/x.nii.gz", "label": str(tmp_path / "elsewhere/y.png")},
        {"image": "..\\elsewhere\\y.png", "label": [f"{tmp_path}/elsewhere/x.nii.gz"]},
    ]
    found = datalist.read(listing(tmp_path / "lists", {"training": entries}))
    assert found.problems == ()
    assert sorted({case.id.split("/slice")[0] for case in found.cases}) == [
        "elsewhere/x", "elsewhere/y",
    ]  # fmt: skip


def test_folds_are_published_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    content = {"training": [entry("a", fold=1), entry("b", fold=0), entry("c", fold=1)]}
    found = open_dataset(listing(tmp_path, content))
    assert found.folds == (
        {"a": "train", "b": "val", "c": "train"},
        {"a": "val", "b": "train", "c": "val"},
    )
    assert {case.split for case in found.cases} == {None}
    assert "2 published folds" in found.reason


@pytest.mark.parametrize(
    ("content", "severity", "words"),
    [
        ({"training": [entry("a", fold=0), entry("b")]}, "error", "1 case for training without"),
        ({"training": [entry("a", fold=2), entry("b", fold=2)]}, "warning", "are in fold 2"),
        (
            {"training": [entry("a", fold=0), entry("b", fold=1)], "validation": [entry("c")]},
            "warning",
            "both a list for validation and folds",
        ),
    ],
)
def test_folds_that_cannot_be_used_are_explained(
    tmp_path: Path, content: object, severity: str, words: str
) -> None:
    found = open_dataset(listing(tmp_path, content))
    assert [(p.severity, p.kind) for p in found.problems] == [(severity, "fold")]
    assert words in messages(found)
    assert found.folds == ()


def test_ids_patients_fields_of_view_and_further_keys_are_kept(tmp_path: Path) -> None:
    touch(tmp_path, "view.png")
    more = {"site": "x", "age": 61, "left": True, "weight": float("nan"), "boxes": [[1, 2]]}
    entries = [
        entry("a", id="first", patient="p", field_of_view="view.png", **more),
        entry("b", subject_id=7),
    ]
    found = open_dataset(listing(tmp_path, {"training": entries}))
    second, first = found.cases
    assert (first.id, first.patient, second.id, second.patient) == ("first", "p", "b", "7")
    assert first.attributes == {"site": "x", "age": "61", "left": "true", "weight": ""}
    assert first.field_of_view is not None
    assert first.field_of_view.path.name == "view.png"


def test_entries_without_a_label_are_unlabelled_and_counted(tmp_path: Path) -> None:
    entries = [entry("a"), {"image": "b.png"}, {"image": "c.png", "label": None}]
    found = open_dataset(listing(tmp_path, {"training": entries}))
    assert pairs(found) == {"a": "a_m.png", "b": None, "c": None}
    assert "2 of 3 images have no label: b, c" in messages(found)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (3, "is 3, not an object"),
        ("a.png", 'is "a.png", not an object'),
        ({}, "'image' is null, not a file"),
        ({"image": ""}, "'image' is \"\", not a file"),
        ({"image": []}, "'image' is an empty list, not a file"),
        ({"image": {"a": 1}}, "'image' is an object, not a file"),
        ({"image": ["a.png", 1]}, "'image' is a list, not a file"),
        ({"image": "z.png"}, "z.png does not exist"),
        ({"image": "x" * 5000}, "does not exist"),
        ({"image": "a\0.png"}, "a\\x00.png does not exist"),
        (entry("a", label="z.png"), "z.png does not exist"),
        (entry("a", label=1), "'label' is 1, not a file"),
        (entry("a", label=["a_m.png", "b_m.png"]), "'label' lists 2 files"),
        (entry("a", fold="0"), "'fold' is \"0\""),
        (entry("a", fold=True), "'fold' is true"),
        (entry("a", fold=-1), "'fold' is -1"),
        (entry("a", id="../x"), "'id' is \"../x\""),
        (entry("a", id="..\\x"), "'id' is \"..\\\\x\""),
        (entry("a", id="/x"), "'id' is \"/x\""),
        (entry("a", id="C:\\x"), "'id' is \"C:"),
        (entry("a", id=""), "'id' is \"\""),
        (entry("a", id=3), "'id' is 3"),
        (entry("a", patient=[]), "'patient' is an empty list"),
        (entry("a", field_of_view="z.png"), "z.png does not exist"),
        (entry("d"), "the image is also that of training[0]"),
        (entry("a", id="d"), "the id 'd' is also that of training[0]"),
    ],
)
def test_an_entry_that_cannot_be_used_is_an_error_with_its_place(
    tmp_path: Path, given: object, words: str
) -> None:
    found = open_dataset(listing(tmp_path, {"training": [entry("d"), given]}))
    assert [problem.severity for problem in found.problems] == ["error"]
    assert found.problems[0].where.endswith("datalist.json, training[1]")
    assert words in found.problems[0].found
    assert [case.id for case in found.cases] == ["d"]


def test_all_errors_are_found_in_one_go(tmp_path: Path) -> None:
    content = {
        "training": [entry("a"), 3, entry("b", label="z.png", fold="x")],
        "validation": {},
        "labels": {"background": 0, "x": -1},
    }
    found = open_dataset(listing(tmp_path, content))
    assert kinds(found) == ["json-key", "json-key", "json-key", "labels", "missing-file"]


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "rim": 1, "cup": 2},
        {"0": "background", "1": "rim", "2": "cup"},
        {"2": "cup", "0": "background", "1": "rim"},
    ],
)
def test_labels_are_read_whichever_way_round(tmp_path: Path, labels: object) -> None:
    found = open_dataset(listing(tmp_path, {"training": [entry("a")], "labels": labels}))
    assert found.labels is not None
    assert found.labels.names == ("background", "rim", "cup")
    assert found.labels.values == (0, 1, 2)


def test_labels_may_be_regions_or_lie_beside_the_list(tmp_path: Path) -> None:
    content: dict[str, Any] = {"training": [entry("a")]}
    (tmp_path / "labels.json").write_text('{"background": 0, "cell": 255}')
    beside = open_dataset(listing(tmp_path, content)).labels
    assert beside is not None
    assert beside.values == (0, 255)
    content["labels"] = {"background": 0, "disc": [1, 2], "cup": 2}
    own = open_dataset(listing(tmp_path, content)).labels
    assert own is not None
    assert own.regions == (Region("disc", (1, 2)), Region("cup", (2,)))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"0": "background", "1": 3}, "'labels.1' is 3, not a name"),
        ({"0": "background", "1": "x", "2": "x"}, "'x' is declared twice"),
        ({"0": "background", "9" * 50: "x"}, "'x' has the value -1"),
        ({"1": "x"}, "no label stands for 0"),
        ([], "'labels' is an empty list"),
    ],
)
def test_labels_that_cannot_be_used_are_explained(
    tmp_path: Path, labels: object, words: str
) -> None:
    found = open_dataset(listing(tmp_path, {"training": [entry("a")], "labels": labels}))
    assert words in messages(found)
    assert found.labels is None


def test_the_usual_name_goes_before_others(tmp_path: Path) -> None:
    listing(tmp_path, {"training": [entry("a")]}, "fold_0.json")
    listing(tmp_path, {"training": [entry("b")]}, "datalist.json")
    assert [case.id for case in open_dataset(tmp_path).cases] == ["b"]


def test_several_lists_in_a_folder_are_an_error_that_names_them(tmp_path: Path) -> None:
    for name in ("fold_0.json", "fold_1.json"):
        listing(tmp_path, {"training": [entry("a")]}, name)
    with pytest.raises(DataError, match=r"several lists: fold_0\.json, fold_1\.json"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        {"train": ["a", "b"], "test": ["c"]},
        {"training": 3},
        {"images": [], "annotations": []},
        ["training"],
        {"training": [entry("a")], "channel_names": {"0": "x"}},
    ],
)
def test_other_json_files_are_not_taken_for_lists(tmp_path: Path, content: object) -> None:
    listing(tmp_path, content, "dataset.json")
    assert datalist.recognise(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"training": []}, "no entry can be used. Add some"),
        ({"training": [3]}, r"training\[0\]: is 3, not an object"),
        ({"training": [entry("y"), entry("z")]}, "y.png does not exist.*and 1 more"),
    ],
)
def test_a_list_without_usable_entries_is_explained(
    tmp_path: Path, content: object, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        open_dataset(listing(tmp_path, content))


def test_a_folder_without_a_list_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no list of images"):
        open_dataset(tmp_path, layout="datalist")


def test_names_match_across_unicode_forms(tmp_path: Path) -> None:
    touch(tmp_path, unicodedata.normalize("NFD", "é.png"))
    name = unicodedata.normalize("NFC", "é")
    found = open_dataset(listing(tmp_path, {"training": [entry("a", image=f"{name}.png")]}))
    assert [case.id for case in found.cases] == [name]


VALID = {
    "training": [
        entry("a", fold=0, id="x", patient="p", site="s"),
        {"image": ["b.png", "c.png"], "label": ["b_m.png"], "fold": 1, "field_of_view": "a_m.png"},
    ],
    "testing": ["d.png", {"image": "c.png"}],
    "labels": {"0": "background", "1": "x"},
}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=changed(VALID))
def test_whatever_the_list_holds_only_a_message_comes_out(tmp_path: Path, content: object) -> None:
    path = listing(tmp_path, content)
    for root in (tmp_path, path):
        datalist.recognise(root)
        try:
            found = datalist.read(root)
        except DataError:
            continue
        assert all(is_one_line(problem.found) for problem in found.problems)
        assert all(is_one_line(case.id) and ".." not in case.id for case in found.cases)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=json_values)
def test_any_json_gives_cases_or_a_message(tmp_path: Path, content: object) -> None:
    path = listing(tmp_path, content)
    for root in (tmp_path, path):
        datalist.recognise(root)
        with pytest.raises(DataError):
            datalist.read(root)


def test_real_pictures_pass_the_check(tmp_path: Path) -> None:
    names = [f"c{index}" for index in range(4)]
    for index, name in enumerate(names):
        save(tmp_path / f"{name}.png", noise(index))
        save(tmp_path / f"{name}_m.png", disk(value=1, radius=3 + index))
    content = {"training": [entry(name) for name in names], "labels": {"background": 0, "disk": 1}}
    (tmp_path / "list.json").write_text(json.dumps(content))
    survey = check_dataset(open_dataset(tmp_path / "list.json"))
    assert survey.problems == ()
    assert [facts.id for facts in survey.cases] == names


def test_names_with_odd_spaces_are_ids_as_they_are(tmp_path: Path) -> None:
    name = "shot 10.11\u202fAM"
    touch(tmp_path, f"{name}.png")
    found = open_dataset(listing(tmp_path, {"training": [entry("a", image=f"{name}.png")]}))
    assert [case.id for case in found.cases] == [name]


def test_the_fourth_axis_of_a_volume_is_its_channels(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).normal(size=(6, 5, 3, 2)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "i.nii.gz")  # type: ignore[attr-defined, no-untyped-call]
    nibabel.save(  # type: ignore[attr-defined]
        nibabel.Nifti1Image((voxels[..., 0] > 0).astype(np.uint8), np.eye(4)),  # type: ignore[no-untyped-call]
        tmp_path / "m.nii.gz",
    )
    content = {"training": [{"image": "i.nii.gz", "label": "m.nii.gz"}]}
    found = open_dataset(listing(tmp_path, content))
    assert [case.image.read_image().shape[2] for case in found.cases] == [2, 2, 2]
    assert found.problems == ()


def test_an_image_may_be_the_folder_of_a_series(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    found = open_dataset(listing(tmp_path, {"training": [entry("a", image="series")]}))
    assert found.cases[0].image.path == tmp_path / "series"
    assert "unreadable-image" in {problem.kind for problem in check_dataset(found).errors}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not valid JSON"),
        ("[1]", "holds a list, not an object"),
        ("{}", "is an empty JSON file"),
        ('{"images": 1, "b": 2}', "a JSON file with the keys images, b"),
    ],
)
def test_a_json_file_that_is_no_list_is_described(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=words):
        open_dataset(tmp_path / "x.json")
