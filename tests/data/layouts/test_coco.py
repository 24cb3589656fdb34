from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.data.case import Case
from medseg.data.integrity import check_dataset
from medseg.data.layouts import open_dataset
from medseg.errors import DataError

from ..builders import disk, noise, save
from ..outlines import compressed, one_ring, run_lengths

SQUARE = [2, 2, 6, 2, 6, 6, 2, 6]
Json = dict[str, Any]


def image(key: object = 1, name: object = "a.png", **extra: object) -> Json:
    return {"id": key, "file_name": name, "height": 16, "width": 20, **extra}


def outline(key: int = 1, image_id: object = 1, category: object = 1, **extra: object) -> Json:
    return {
        "id": key,
        "image_id": image_id,
        "category_id": category,
        "segmentation": [SQUARE],
        "iscrowd": 0,
        **extra,
    }


def document(**changes: Any) -> Json:
    content: Json = {
        "images": [image()],
        "annotations": [outline()],
        "categories": [{"id": 1, "name": "polyp"}],
    }
    return {key: value for key, value in {**content, **changes}.items() if value is not None}


def write(root: Path, content: Json, name: str = "annotations/instances_all.json") -> Path:
    """A COCO file beside images/ with the pictures a, b and c."""
    for index, stem in enumerate("abc"):
        if not (root / "images" / f"{stem}.png").exists():
            save(root / "images" / f"{stem}.png", noise(index))
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def values(case: Case) -> np.ndarray[Any, Any]:
    assert case.mask is not None
    return case.mask.read_mask().values


def square(value: int = 1) -> np.ndarray[Any, Any]:
    mask = np.zeros((16, 20), np.int32)
    mask[2:6, 2:6] = value
    return mask


@pytest.mark.parametrize(
    "name", ["annotations/instances_all.json", "annotations.json", "images/_annotations.coco.json"]
)
def test_the_json_and_its_folder_are_read(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, document(), name)
    found = open_dataset(path)
    if path.parent.name != "images":
        assert open_dataset(tmp_path).cases == found.cases
    assert (found.layout, found.problems) == ("coco", ())
    (case,) = found.cases
    assert (case.id, case.image.path.name) == ("a", "a.png")
    assert np.array_equal(values(case), square())
    assert found.labels is not None
    assert found.labels.names == ("background", "polyp")


def test_polygons_and_both_kinds_of_run_lengths_are_the_same_pixels(tmp_path: Path) -> None:
    mask = disk(value=1)
    lengths = run_lengths(mask > 0)
    size = [16, 20]
    forms = [
        [one_ring(mask > 0)],
        {"size": size, "counts": lengths},
        {"size": size, "counts": compressed(lengths)},
    ]
    content = document(
        images=[image(index, f"{stem}.png") for index, stem in enumerate("abc")],
        annotations=[
            outline(index, index, segmentation=form, iscrowd=int(index > 0))
            for index, form in enumerate(forms)
        ],
    )
    found = open_dataset(write(tmp_path, content))
    assert found.problems == ()
    for case in found.cases:
        assert np.array_equal(values(case), mask)


def test_categories_become_classes_in_the_order_of_their_ids(tmp_path: Path) -> None:
    content = document(
        categories=[{"id": 90, "name": "vein"}, {"id": 7, "name": "liver"}],
        annotations=[
            outline(1, category=90),
            outline(2, category=7, segmentation=[[0, 0, 9, 0, 9, 9]]),
        ],
    )
    found = open_dataset(write(tmp_path, content))
    assert found.labels is not None
    assert found.labels.names == ("background", "liver", "vein")
    assert found.labels.values == (0, 1, 2)
    (case,) = found.cases
    assert np.array_equal(values(case) == 2, square() == 1)
    assert (values(case)[0, 1:8] == 1).all()


def test_a_parent_without_objects_and_the_background_are_no_classes(tmp_path: Path) -> None:
    content = document(
        categories=[
            {"id": 0, "name": "cells", "supercategory": "none"},
            {"id": 1, "name": "nucleus", "supercategory": "cells"},
            {"id": 2, "name": "rare", "supercategory": "rare"},
            {"id": 3, "name": "Background"},
        ],
    )
    found = open_dataset(write(tmp_path, content))
    assert found.labels is not None
    assert found.labels.names == ("background", "nucleus", "rare")
    assert np.array_equal(values(found.cases[0]), square())


def test_an_image_without_annotations_is_an_empty_case(tmp_path: Path) -> None:
    found = open_dataset(write(tmp_path, document(images=[image(), image(2, "b.png")])))
    assert not values(found.cases[1]).any()
    assert found.problems == ()


def test_without_the_key_annotations_the_images_are_unlabelled(tmp_path: Path) -> None:
    found = open_dataset(write(tmp_path, document(annotations=None), "annotations/image_info.json"))
    assert [case.mask for case in found.cases] == [None]


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (
            ("annotations/instances_train2017.json", "annotations/instances_val2017.json"),
            ("train2017", "val2017"),
        ),
        (("annotations/train.json", "annotations/val.json"), ("images/train", "images/val")),
        (
            ("train/_annotations.coco.json", "valid/_annotations.coco.json"),
            ("train", "valid"),
        ),
    ],
)
def test_files_for_the_parts_are_a_published_split(
    tmp_path: Path, names: tuple[str, str], folders: tuple[str, str]
) -> None:
    for index, (name, folder) in enumerate(zip(names, folders, strict=True)):
        save(tmp_path / folder / f"{index}.png", noise(index))
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(document(images=[image(name=f"{index}.png")])))
    found = open_dataset(tmp_path)
    assert {case.id: case.split for case in found.cases} == {"0": "train", "1": "val"}
    assert [case.image.path.parent for case in found.cases] == [tmp_path / each for each in folders]
    assert found.reason.endswith("published split: train, val")
    assert [case.split for case in open_dataset(tmp_path / names[0]).cases] == [None]


def test_images_of_one_name_in_two_parts_get_the_part_in_their_id(tmp_path: Path) -> None:
    for part in ("train", "test"):
        save(tmp_path / part / "1.png", noise())
        content = json.dumps(document(images=[image(name="1.png")]))
        (tmp_path / part / "_annotations.coco.json").write_text(content)
    assert [case.id for case in open_dataset(tmp_path).cases] == ["test/1", "train/1"]


def test_several_files_that_are_no_split_are_listed(tmp_path: Path) -> None:
    write(tmp_path, document(), "annotations/instances_one.json")
    write(tmp_path, document(), "annotations/instances_two.json")
    with pytest.raises(
        DataError, match=r"instances_one\.json, annotations/instances_two\.json.*Name one"
    ):
        open_dataset(tmp_path)


def test_further_keys_of_an_image_are_read(tmp_path: Path) -> None:
    content = document(
        images=[
            image(patient="p1", split="train", site="A", age=61, license=3),
            image(2, "b.png", patient_id=7, split="valid", tags=["x"]),
        ]
    )
    first, second = open_dataset(write(tmp_path, content)).cases
    assert (first.patient, first.split, first.attributes) == (
        "p1",
        "train",
        {"site": "A", "age": "61"},
    )
    assert (second.patient, second.split, second.attributes) == ("7", "val", {})


def test_without_a_size_the_header_of_the_image_says_it(tmp_path: Path) -> None:
    bare = {"id": 1, "file_name": "a.png"}
    (case,) = open_dataset(write(tmp_path, document(images=[bare]))).cases
    assert np.array_equal(values(case), square())


def test_a_wrong_size_is_found_by_the_check(tmp_path: Path) -> None:
    content = document(images=[image(height=20, width=16)])
    survey = check_dataset(open_dataset(write(tmp_path, content)))
    assert [problem.kind for problem in survey.errors] == ["size-mismatch"]


def test_a_declared_dataset_is_preferred_to_folders_and_two_are_ambiguous(tmp_path: Path) -> None:
    write(tmp_path, document())
    save(tmp_path / "masks" / "a.png", disk())
    assert open_dataset(tmp_path).layout == "coco"
    (tmp_path / "manifest.csv").write_text("image,mask\nimages/a.png,masks/a.png\n")
    with pytest.raises(DataError, match=r"manifest \(.*coco \(.*--layout"):
        open_dataset(tmp_path)
    assert open_dataset(tmp_path, layout="manifest").layout == "manifest"


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        (None, "no segmentation"),
        ([], "no segmentation"),
        ("x", "its segmentation is"),
        ([1, 2, 3, 4, 5, 6], "a list of 1, not of polygons"),
        ([[1, 1, 5, 1, 5]], r"odd number of coordinates \(5\)"),
        ([[1, 1, 5, 5]], "has 2 corners, and needs 3"),
        ([[]], "has 0 corners"),
        ([[1, 1, 5, 1, 5, float("nan")]], "not finite"),
        ([[1, 1, 5, 1, 5, 1e300]], "not finite or out of all bounds"),
        ([[1, 1, 5, 1, 5, 10**400]], "not finite or out of all bounds"),
        ([[1, 1, 5, 1, 5, "5"]], "other than numbers"),
        ([[1, 1, 5, 1, 5, True]], "other than numbers"),
        ({}, "has the size null"),
        ({"counts": [320]}, "has the size null"),
        ({"size": [20, 16], "counts": [320]}, "has the size 20x16, its image 16x20"),
        ({"size": [16, 20], "counts": [300]}, "counts 300 pixels; its image has 320"),
        ({"size": [16, 20], "counts": [-4, 324]}, "counts a negative number"),
        ({"size": [16, 20], "counts": [10**500]}, r"counts 10{20,} \.\.\. pixels"),
        ({"size": [16, 20], "counts": []}, "has the counts an empty list"),
        ({"size": [16, 20], "counts": [True]}, "has the counts"),
        ({"size": [16, 20], "counts": "0P"}, "ends within a number"),
        ({"size": [16, 20], "counts": "~"}, "characters that no such text has"),
        ({"size": [16, 20], "counts": "04"}, "counts 4 pixels"),
    ],
)
def test_a_wrong_outline_is_explained(tmp_path: Path, segmentation: Any, words: str) -> None:
    good = outline(2, segmentation=[SQUARE])
    path = write(tmp_path, document(annotations=[outline(9, segmentation=segmentation), good]))
    found = open_dataset(path)
    (problem,) = found.problems
    assert (problem.kind, problem.severity) == ("annotation", "error")
    assert problem.where == f"{path}, annotation 9"
    assert re.search(words, problem.found)
    assert np.array_equal(values(found.cases[0]), square())


def test_objects_outside_their_image_are_cut_with_a_warning(tmp_path: Path) -> None:
    content = document(annotations=[outline(5, segmentation=[[-9, 2, 6, 2, 6, 6, -9, 6]])])
    found = open_dataset(write(tmp_path, content))
    (problem,) = found.problems
    assert (problem.kind, problem.severity) == ("outside-image", "warning")
    assert problem.found == "objects reach beyond their image (1 of 1): annotation 5"
    assert values(found.cases[0]).sum() == 24


def test_all_that_is_wrong_is_said_in_one_go(tmp_path: Path) -> None:
    content = document(
        images=[
            image(),
            image(2, "absent.png"),
            image(1, "b.png"),
            image(3, "a.png"),
            image(4, None),
            image(None, "b.png"),
            image(5, "b.png", height="16"),
            image(6, "c.png", split="holdout"),
            image(7, "d.png", patient=["p"]),
            "x",
        ],
        annotations=[
            outline(1),
            outline(1),
            outline(2, image_id=99),
            outline(3, image_id=[1]),
            outline(4, category=9),
            outline(5, image_id=2),
            "x",
        ],
        categories=[{"id": 1, "name": "polyp"}, {"id": 2}, {"name": "x"}, 3],
    )
    save(tmp_path / "images" / "d.png", noise())
    found = open_dataset(write(tmp_path, content))
    assert [case.id for case in found.cases] == ["a"]
    counted = sorted((problem.kind, problem.severity) for problem in found.problems)
    assert counted == sorted(
        [
            ("json-key", "error"),  # a category without a name
            ("json-key", "error"),  # one without an id
            ("json-key", "error"),  # one that is no object
            ("missing-file", "error"),
            ("duplicate-id", "error"),
            ("duplicate-row", "error"),
            ("json-key", "error"),  # no file_name
            ("json-key", "error"),  # no id
            ("json-key", "error"),  # height is text
            ("json-key", "error"),  # an image that is no object
            ("unknown-split", "error"),
            ("json-key", "error"),  # patient is a list
            ("annotation", "error"),  # image_id 99
            ("annotation", "error"),  # image_id [1]
            ("annotation", "error"),  # category_id 9
            ("json-key", "error"),  # an annotation that is no object
            ("duplicate-id", "warning"),
        ]
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"images": [], "annotations": [', "is not valid JSON"),
        (
            '{"images": 3, "annotations": {}, "categories": [{"id": 1, "name": "x"}]}',
            "'images' is 3",
        ),
        ('{"images": [], "annotations": []}', "no classes are declared"),
        ('{"images": [], "annotations": [], "categories": {}}', "'categories' is an object"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "x"}, '
            '{"id": 2, "name": "x"}]}',
            "'x' is declared twice",
        ),
        (
            '{"images": [{"id": 1, "file_name": "z.png"}], "annotations": [], '
            '"categories": [{"id": 1, "name": "x"}]}',
            "none of its 1 images can be used; image 1: the image z.png does not exist",
        ),
        ('{"images": [' + "[" * 100_000 + '"annotations":', "nested too deep"),
    ],
)
def test_a_file_that_cannot_be_used_is_explained(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "instances.json"
    path.write_text(content)
    with pytest.raises(DataError, match=words):
        open_dataset(path)


def test_a_large_file_is_recognised_by_its_beginning_and_end(tmp_path: Path) -> None:
    objects = [outline(key, image_id=1) for key in range(2000)]
    content = {"info": {}, "annotations": objects, "categories": [{"id": 1, "name": "x"}]}
    path = write(tmp_path, {**content, "images": [image()]})
    assert path.stat().st_size > 200_000
    assert open_dataset(tmp_path).layout == "coco"


def test_other_json_is_left_to_other_layouts(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text('{"background": 0, "images": 1}')
    save(tmp_path / "images" / "a.png", noise())
    save(tmp_path / "masks" / "a.png", disk(value=1))
    assert open_dataset(tmp_path).layout == "folders"


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 400)
    | st.sampled_from(
        [10**400, 1e300, float("nan"), float("inf"), "a.png", "", "\0", "\ud800", "04"]
    )
    | st.text(max_size=3)
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=6,
)


# Files are written and read: a busy machine may take long.
@settings(deadline=None, max_examples=60)
@given(
    place=st.sampled_from(
        [
            ("images",), ("images", 0), ("images", 0, "id"), ("images", 0, "file_name"),
            ("images", 0, "height"), ("images", 0, "split"), ("images", 0, "patient"),
            ("images", 0, "x"), ("annotations",), ("annotations", 0), ("annotations", 0, "id"),
            ("annotations", 0, "image_id"), ("annotations", 0, "category_id"),
            ("annotations", 0, "segmentation"), ("annotations", 0, "segmentation", 0),
            ("annotations", 0, "segmentation", 0, 3), ("annotations", 1, "segmentation", "counts"),
            ("annotations", 1, "segmentation", "size"), ("categories",), ("categories", 0),
            ("categories", 0, "id"), ("categories", 0, "name"), ("categories", 0, "supercategory"),
        ]
    ),
    tree=TREES,
)  # fmt: skip
def test_whatever_a_file_holds_is_read_or_explained(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[Any, ...], tree: Any
) -> None:
    runs = {"size": [16, 20], "counts": [0, 320]}
    content: Any = json.loads(
        json.dumps(document(annotations=[outline(), outline(2, segmentation=runs)]))
    )
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = tree
    path = write(tmp_path_factory.getbasetemp() / "fuzzed-coco", content)
    with suppress(DataError):
        for case in open_dataset(path).cases:
            assert not case.mask or case.mask.read_mask().values.max() <= 255
