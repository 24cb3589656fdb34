from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.data.case import Case
from medseg.data.layouts import open_dataset
from medseg.errors import DataError

from ..builders import disk, noise, save
from ..outlines import one_ring

SQUARE = "0 0.1 0.125 0.3 0.125 0.3 0.375 0.1 0.375"
PARTS = {"train": "images/train", "val": "images/val", "names": ["polyp"]}


def write(root: Path, content: object = PARTS, name: str = "data.yaml") -> Path:
    """A YAML file beside two training images and one of validation, all without polygons."""
    for index, part in enumerate(("train/a", "train/b", "val/c")):
        if not (root / "images" / f"{part}.png").exists():
            save(root / "images" / f"{part}.png", noise(index))
    path = root / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def label(root: Path, text: str, name: str = "labels/train/a.txt") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def values(case: Case) -> np.ndarray[Any, Any]:
    assert case.mask is not None
    return case.mask.read_mask().values


def square(value: int = 1) -> np.ndarray[Any, Any]:
    mask = np.zeros((16, 20), np.int32)
    mask[2:6, 2:6] = value
    return mask


def test_polygons_are_read_with_the_published_split(tmp_path: Path) -> None:
    path = write(tmp_path)
    label(tmp_path, f"{SQUARE}\n\n")
    label(tmp_path, "", "labels/val/c.txt")
    found = open_dataset(tmp_path)
    assert open_dataset(path).cases == found.cases
    assert (found.layout, found.problems) == ("yolo", ())
    assert {case.id: case.split for case in found.cases} == {
        "train/a": "train",
        "train/b": "train",
        "val/c": "val",
    }
    assert np.array_equal(values(found.cases[0]), square())
    assert [values(case).any() for case in found.cases[1:]] == [False, False]
    assert found.labels is not None
    assert found.labels.names == ("background", "polyp")
    assert found.reason == "data.yaml names classes and images (YOLO): train, val"


def test_a_mask_written_as_a_polygon_keeps_every_pixel(tmp_path: Path) -> None:
    mask = disk(value=1)
    ring = np.array(one_ring(mask > 0)).reshape(-1, 2) / [20, 16]
    write(tmp_path)
    label(tmp_path, f"0 {' '.join(map(str, ring.ravel().tolist()))}\n")
    assert np.array_equal(values(open_dataset(tmp_path).cases[0]), mask)


@pytest.mark.parametrize(
    ("names", "classes", "value"),
    [
        (["polyp", "vein"], ("polyp", "vein"), 2),
        ({0: "polyp", 1: "vein"}, ("polyp", "vein"), 2),
        ({1: "vein", 7: 8}, ("vein", "8"), 1),
        (["background", "vein"], ("vein",), 1),
    ],
)
def test_names_are_a_list_or_an_object(
    tmp_path: Path, names: object, classes: tuple[str, ...], value: int
) -> None:
    write(tmp_path, {**PARTS, "names": names})
    label(tmp_path, f"1{SQUARE[1:]}")
    found = open_dataset(tmp_path)
    assert found.labels is not None
    assert found.labels.names == ("background", *classes)
    assert np.array_equal(values(found.cases[0]), square(value))


def test_a_part_without_any_polygon_file_is_unlabelled(tmp_path: Path) -> None:
    write(tmp_path)
    label(tmp_path, SQUARE)
    found = open_dataset(tmp_path)
    assert [case.mask is not None for case in found.cases] == [True, True, False]
    (problem,) = found.problems
    assert (problem.kind, problem.severity) == ("unpaired-image", "warning")
    assert str(tmp_path / "labels" / "val" / "c.txt") in problem.found


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"path": "."}, 3),
        ({"path": "/nowhere/else"}, 3),
        ({"train": "../images/train"}, 3),
        ({"train": "images\\train"}, 3),
        ({"train": ["images/train", "images/val"], "val": None}, 3),
        ({"train": "train.txt", "val": ""}, 1),
    ],
)
def test_parts_are_found_as_other_tools_write_them(
    tmp_path: Path, changes: dict[str, object], count: int
) -> None:
    write(tmp_path, {**PARTS, **changes})
    (tmp_path / "train.txt").write_text("./images/train/a.png\n")
    label(tmp_path, SQUARE)
    label(tmp_path, "", "labels/val/c.txt")
    found = open_dataset(tmp_path)
    assert len(found.cases) == count
    assert found.problems == ()
    assert np.array_equal(values(found.cases[0]), square())


def test_images_and_labels_may_lie_in_each_part(tmp_path: Path) -> None:
    save(tmp_path / "train" / "images" / "a.jpg", noise())
    label(tmp_path, SQUARE, "train/labels/a.txt")
    (tmp_path / "data.yaml").write_text("train: ../train/images\nval:\nnames: ['x']\n")
    (case,) = open_dataset(tmp_path).cases
    assert (case.id, case.split) == ("a", None)
    assert np.array_equal(values(case), square())


def test_a_folder_called_images_above_the_dataset_does_not_matter(tmp_path: Path) -> None:
    root = tmp_path / "images" / "set"
    save(root / "train" / "a.png", noise())
    label(root, SQUARE, "train/a.txt")
    (root / "data.yaml").write_text("train: train\nnames: [x]\n")
    assert np.array_equal(values(open_dataset(root).cases[0]), square())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.1 0.1", r"holds boxes .*: line 1, line 2"),
        ("3" + SQUARE[1:], r"line 1: '3' is not the number of a class"),
        ("polyp 0 0 1 0 1 1", r"'polyp' is not the number"),
        ("0.5 0 0 1 0 1 1", r"'0\.5' is not the number"),
        (f"{SQUARE}\n0 0 0 1 0 1", r"line 2: a polygon has an odd number of coordinates \(5\)"),
        ("0 0 0", "has 1 corner, and needs 3"),
        ("0", "has 0 corners, and needs 3"),
        ("0 0 0 1 0 1 x", "other than numbers"),
        ("0 0 0 1 0 1 nan", "not finite"),
        ("0 10 10 300 10 300 200", "coordinates go from 10 to 300"),
    ],
)
def test_a_wrong_line_is_explained(tmp_path: Path, text: str, words: str) -> None:
    write(tmp_path, {**PARTS, "val": ""})
    path = label(tmp_path, text)
    (problem,) = open_dataset(tmp_path).problems
    assert (problem.kind, problem.severity, problem.where) == ("annotation", "error", str(path))
    assert re.search(words, problem.found)


def test_objects_outside_the_image_are_cut_with_a_warning(tmp_path: Path) -> None:
    write(tmp_path, {**PARTS, "val": ""})
    label(tmp_path, "0 -0.5 0 1 0 1 1 -0.5 1\n")
    found = open_dataset(tmp_path)
    assert [(each.kind, each.severity) for each in found.problems] == [("outside-image", "warning")]
    assert values(found.cases[0]).all()


def test_all_that_is_wrong_is_said_in_one_go(tmp_path: Path) -> None:
    content = {
        "train": ["images/train", "images/absent", 7, "list.txt", "latin.txt", "labels"],
        "val": "absent.txt",
        "names": {0: "polyp", 1: True, "x": "vein", -1: "y"},
        "nc": 2,
    }
    write(tmp_path, content)
    (tmp_path / "list.txt").write_text("images/train/z.png\nimages/train/a.png\n")
    (tmp_path / "latin.txt").write_bytes(b"\xff")
    label(tmp_path, "0 1 1 1 1")
    save(tmp_path / "images" / "train" / "a.jpg", noise())
    found = open_dataset(tmp_path)
    assert sorted(problem.kind for problem in found.problems) == sorted(
        [
            *["json-key"] * 3,  # names
            "json-key",  # nc
            "missing-file",  # images/absent
            "json-key",  # 7
            "missing-file",  # a line of list.txt
            "missing-file",  # latin.txt
            "missing-file",  # labels holds no image
            "missing-file",  # absent.txt
            "duplicate-row",  # a.jpg and a.png
            "duplicate-row",  # a.png again, in list.txt
            "annotation",
        ]
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"train": "images/train", "names": []}, "no classes are declared"),
        ({"train": "images/train", "names": "polyp"}, "'names' is \"polyp\""),
        ({"train": "images/train", "names": ["a", "a"]}, "'a' is declared twice"),
        ({"train": "absent", "names": ["a"]}, "'train' is absent, which does not exist"),
    ],
)
def test_a_yaml_that_cannot_be_used_is_explained(
    tmp_path: Path, content: object, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        open_dataset(write(tmp_path, content))


def test_several_yaml_files_are_listed(tmp_path: Path) -> None:
    write(tmp_path, PARTS, "one.yaml")
    write(tmp_path, PARTS, "two.yml")
    with pytest.raises(DataError, match=r"one\.yaml, two\.yml"):
        open_dataset(tmp_path)
    assert open_dataset(tmp_path / "one.yaml").layout == "yolo"


def test_masks_of_a_semantic_set_are_read_from_their_folder(tmp_path: Path) -> None:
    write(tmp_path, {**PARTS, "masks_dir": "masks"})
    for name in ("train/a", "train/b", "val/c"):
        save(tmp_path / "masks" / f"{name}.png", disk())
    found = open_dataset(tmp_path)
    assert found.layout == "folders"
    assert [case.split for case in found.cases] == ["train", "train", "val"]


@pytest.mark.parametrize("text", ["[", "a: *b", "x: 2020-99-99", "- 1", "\0", "&a [*a]", "[" * 600])
def test_other_yaml_is_no_dataset(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match="not a dataset"):
        open_dataset(write(tmp_path, text))


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 10**30)
    | st.floats()
    | st.dates()
    | st.binary(max_size=2)
    | st.sampled_from(["images/train", "images", "train.txt", "absent", "\0", "x" * 300])
    | st.text(max_size=3)
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LEAVES, inner, max_size=2),
    max_leaves=5,
)


# Files are written and read: a busy machine may take long.
@settings(deadline=None, max_examples=60)
@given(
    changes=st.dictionaries(
        st.sampled_from(["train", "val", "test", "names", "nc", "path"]), TREES, max_size=2
    ),
    line=st.text(alphabet="0123.-e naif#\n\t\xa0", max_size=30),
)
def test_whatever_the_files_hold_is_read_or_explained(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any], line: str
) -> None:
    root = tmp_path_factory.getbasetemp() / "fuzzed-yolo"
    path = write(root, {**PARTS, **changes})
    label(root, line)
    with suppress(DataError):
        for case in open_dataset(path).cases:
            assert not case.mask or case.mask.read_mask().values.max() <= 255
