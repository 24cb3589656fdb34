from __future__ import annotations

import unicodedata
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.data.case import Dataset
from medseg.data.layouts import open_dataset
from medseg.data.source import File
from medseg.errors import DataError

from ..builders import dataset, disk, noise, save


def touch(root: Path, *names: str) -> Path:
    """Empty files: layouts read names, not pixels."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def pairs(found: Dataset) -> dict[str, str | None]:
    return {case.id: case.mask and case.mask.path.name for case in found.cases}


def kinds(found: Dataset) -> list[str]:
    return sorted(problem.kind for problem in found.problems)


def test_images_and_masks_pair_by_stem_and_are_sorted(tmp_path: Path) -> None:
    found = open_dataset(
        touch(tmp_path, *(f"{d}/{s}.png" for d in ("images", "masks") for s in "cab"))
    )
    assert pairs(found) == {"a": "a.png", "b": "b.png", "c": "c.png"}
    assert [case.id for case in found.cases] == ["a", "b", "c"]
    assert (found.layout, found.problems) == ("folders", ())
    assert "images/" in found.reason


@pytest.mark.parametrize(
    ("images", "masks"),
    [("imgs", "Ground Truth"), ("Original", "gt"), ("input", "Annotations"), ("IMAGE", "labels")],
)
def test_other_folder_names_are_known_in_any_case(tmp_path: Path, images: str, masks: str) -> None:
    assert pairs(open_dataset(touch(tmp_path, f"{images}/a.jpg", f"{masks}/a.png"))) == {
        "a": "a.png"
    }


@pytest.mark.parametrize(
    "suffix",
    ["_mask", "_masks", "_Segmentation", "_manual1", "_1stHO", " mask", "_label", "_gt"],
)
@pytest.mark.parametrize("folders", [("images/", "masks/"), ("", ""), ("benign/", "benign/")])
def test_mask_suffixes_pair_in_two_folders_and_in_one(
    tmp_path: Path, suffix: str, folders: tuple[str, str]
) -> None:
    touch(tmp_path, f"{folders[0]}a (1).png", f"{folders[1]}a (1){suffix}.png")
    below = "benign/" if folders[0] == "benign/" else ""
    assert pairs(open_dataset(tmp_path)) == {f"{below}a (1)": f"a (1){suffix}.png"}


def test_an_exact_name_wins_over_a_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "images/a_mask.png", "masks/a.png", "masks/a_mask.png")
    assert pairs(open_dataset(tmp_path)) == {"a": "a.png", "a_mask": "a_mask.png"}


def test_drive_as_published_is_read_with_its_split(tmp_path: Path) -> None:
    for part, name in (("training", "21_training"), ("test", "01_test")):
        number = name[:2]
        touch(tmp_path / part, f"images/{name}.tif", f"1st_manual/{number}_manual1.gif")
        touch(tmp_path / part, f"mask/{name}_mask.gif", f"2nd_manual/{number}_manual2.gif")
    found = open_dataset(tmp_path)
    assert pairs(found) == {
        "test/01_test": "01_manual1.gif",
        "training/21_training": "21_manual1.gif",
    }
    assert [case.split for case in found.cases] == ["test", "train"]
    views = [case.field_of_view and case.field_of_view.path.name for case in found.cases]
    assert views == ["01_test_mask.gif", "21_training_mask.gif"]
    assert found.problems == ()
    assert "field of view in training/mask/" in found.reason


def test_nested_folders_stay_in_the_id(tmp_path: Path) -> None:
    touch(tmp_path, "images/site_a/1.png", "masks/site_a/1.png", "images/site_b/1.png")
    assert pairs(open_dataset(tmp_path)) == {"site_a/1": "1.png", "site_b/1": None}


def test_part_folders_are_a_published_split(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        touch(tmp_path, f"{part}/images/1.png", f"{part}/masks/1.png")
    found = open_dataset(tmp_path)
    assert {case.id: case.split for case in found.cases} == {
        "test/1": "test",
        "train/1": "train",
        "val/1": "val",
    }


def test_a_test_folder_beside_images_and_masks_is_a_published_test_part(tmp_path: Path) -> None:
    touch(tmp_path, "images/1.png", "masks/1.png", "test/images/1.png", "test/masks/1.png")
    found = open_dataset(tmp_path)
    assert {case.id: case.split for case in found.cases} == {"1": "train", "test/1": "test"}


def test_part_folders_inside_images_are_a_published_split(tmp_path: Path) -> None:
    for part in ("train", "test"):
        touch(tmp_path, f"images/{part}/1.png", f"masks/{part}/1.png")
    assert [case.split for case in open_dataset(tmp_path).cases] == ["test", "train"]


def test_further_folders_and_hidden_files_are_ignored(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "images/._a.png", "images/.cache/b.png", "images/notes.txt")
    touch(tmp_path, "masks/a.png", "instances/a.png", "fov/a.png")
    found = open_dataset(tmp_path)
    assert pairs(found) == {"a": "a.png"}
    assert found.problems == ()


def test_unpaired_files_are_reported(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "images/b.png", "masks/a.png", "masks/z.png")
    found = open_dataset(tmp_path)
    assert {problem.kind: problem.severity for problem in found.problems} == {
        "unpaired-image": "warning",
        "mask-without-image": "error",
    }
    assert pairs(found)["b"] is None


def test_stems_that_occur_twice_are_errors(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "images/a.jpg", "images/b.png")
    touch(tmp_path, "masks/a.png", "masks/b.png", "masks/b_mask.png")
    found = open_dataset(tmp_path)
    assert kinds(found) == ["duplicate-stem", "duplicate-stem"]
    assert len(found.cases) == 2


def test_no_pair_at_all_shows_names_of_both_sides(tmp_path: Path) -> None:
    touch(tmp_path, "images/a1.png", "images/a2.png", "masks/b1.png", "masks/b2.png")
    with pytest.raises(DataError, match=r"a1\.png, a2\.png; masks such as b1\.png, b2\.png"):
        open_dataset(tmp_path)


def test_composed_and_decomposed_names_pair(tmp_path: Path) -> None:
    name = "Müller café 画像"
    touch(tmp_path, f"images/{unicodedata.normalize('NFC', name)}.png")
    touch(tmp_path, f"masks/{unicodedata.normalize('NFD', name)}.png")
    assert list(pairs(open_dataset(tmp_path))) == [unicodedata.normalize("NFC", name)]


def test_very_long_names_pair(tmp_path: Path) -> None:
    name = "x" * 240
    assert list(
        pairs(open_dataset(touch(tmp_path, f"images/{name}.png", f"masks/{name}_mask.png")))
    ) == [name]


def test_split_files_name_cases_or_files(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{d}/{s}.png" for d in ("images", "masks") for s in "abc"))
    (tmp_path / "train.txt").write_text("# training\na\n\nb.png\n")
    (tmp_path / "test.txt").write_text("c\n")
    found = open_dataset(tmp_path)
    assert {case.id: case.split for case in found.cases} == {
        "a": "train",
        "b": "train",
        "c": "test",
    }
    assert found.problems == ()


def test_split_files_with_mistakes_are_reported(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{d}/{s}.png" for d in ("images", "masks") for s in "abc"))
    (tmp_path / "train.txt").write_text("a\nz\n")
    (tmp_path / "test.txt").write_text("a\nb\n")
    found = open_dataset(tmp_path)
    assert kinds(found) == ["case-in-two-splits", "not-in-published-split", "split-unknown-case"]
    assert any("train.txt, line 2" in problem.where for problem in found.problems)


def test_only_a_test_list_leaves_the_rest_for_training(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{d}/{s}.png" for d in ("images", "masks") for s in "ab"))
    (tmp_path / "test.txt").write_text("b\n")
    found = open_dataset(tmp_path)
    assert [case.split for case in found.cases] == ["train", "test"]
    assert found.problems == ()


def test_labels_json_in_the_root_is_read(tmp_path: Path) -> None:
    (dataset(tmp_path) / "labels.json").write_text('{"background": 0, "cell": 255}')
    labels = open_dataset(tmp_path).labels
    assert labels is not None
    assert labels.names == ("background", "cell")


def test_the_group_pattern_gives_patients(tmp_path: Path) -> None:
    for name in ("p01_s1", "p01_s2", "p02_s1"):
        touch(tmp_path, f"images/{name}.png", f"masks/{name}.png")
    whole = open_dataset(tmp_path, group_pattern=r"p\d+").cases
    group = open_dataset(tmp_path, group_pattern=r"p(\d+)").cases
    assert [case.patient for case in whole] == ["p01", "p01", "p02"]
    assert [case.patient for case in group] == ["01", "01", "02"]


def test_a_group_pattern_that_misses_a_case_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not found in the case '000'"):
        open_dataset(dataset(tmp_path), group_pattern=r"patient\d+")
    with pytest.raises(DataError, match="not a regular expression"):
        open_dataset(tmp_path, group_pattern="(")


def test_what_is_no_dataset_is_described(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_dataset(tmp_path / "absent")
    with pytest.raises(DataError, match="the folder is empty"):
        open_dataset(tmp_path)
    save(tmp_path / "scans" / "a.png", noise())
    (tmp_path / "a.nii").touch()
    with pytest.raises(DataError, match=r"scans/ and 1 files \(\.nii\)"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match=r"it is a \.nii file"):
        open_dataset(tmp_path / "a.nii")


def test_a_layout_can_be_named(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", noise())
    save(tmp_path / "masks" / "a.png", disk())
    assert len(open_dataset(tmp_path, layout="folders").cases) == 1
    with pytest.raises(DataError, match="not a CSV file"):
        open_dataset(tmp_path, layout="manifest")
    with pytest.raises(DataError, match="Did you mean 'folders'"):
        open_dataset(tmp_path, layout="folder")


@pytest.mark.parametrize(
    ("images", "masks", "split"),
    [
        (
            "ISBI2016_ISIC_Part1_{}_Data",
            "ISBI2016_ISIC_Part1_{}_GroundTruth",
            {"Training": "train", "Test": "test"},
        ),
        (
            "ISIC-2017_{}_Data",
            "ISIC-2017_{}_Part1_GroundTruth",
            {"Training": "train", "Validation": "val", "Test_v2": "test"},
        ),
        (
            "ISIC2018_Task1-2_{}_Input",
            "ISIC2018_Task1_{}_GroundTruth",
            {"Training": "train", "Validation": "val", "Test": "test"},
        ),
    ],
)
def test_isic_as_published_is_read_with_its_split(
    tmp_path: Path, images: str, masks: str, split: dict[str, str]
) -> None:
    for index, part in enumerate(split):
        folder, name = images.format(part), f"ISIC_000000{index}"
        touch(tmp_path / folder, f"{name}.jpg", f"{name}_superpixels.png", f"{folder}.csv")
        touch(tmp_path / masks.format(part), f"{name}_segmentation.png")
    found = open_dataset(tmp_path)
    assert {case.id.split("/")[0]: case.split for case in found.cases} == {
        images.format(part): name for part, name in split.items()
    }
    assert all(case.mask is not None for case in found.cases)
    assert found.problems == ()


def test_one_part_of_isic_is_no_published_split_and_may_lie_one_folder_deeper(
    tmp_path: Path,
) -> None:
    for folder, name in (
        ("ISIC2018_Task1-2_Training_Input", "ISIC_1.jpg"),
        ("ISIC2018_Task1_Training_GroundTruth", "ISIC_1_segmentation.png"),
    ):
        touch(tmp_path / folder / folder, name)
    (case,) = open_dataset(tmp_path).cases
    assert case.split is None
    assert case.mask is not None


def test_busi_masks_are_united_and_its_folders_are_an_attribute(tmp_path: Path) -> None:
    touch(tmp_path, "normal/normal (1).png", "normal/normal (1)_mask.png")
    for kind in ("", "_mask", "_mask_1", "_mask_2"):
        touch(tmp_path, f"benign/benign (4){kind}.png")
    found = open_dataset(tmp_path)
    benign, normal = found.cases
    assert benign.mask is not None
    assert [file.name for file in benign.mask.files] == [
        "benign (4)_mask.png",
        "benign (4)_mask_1.png",
        "benign (4)_mask_2.png",
    ]
    assert pairs(found)["normal/normal (1)"] == "normal (1)_mask.png"
    assert [case.attributes for case in (benign, normal)] == [
        {"folder": "benign"},
        {"folder": "normal"},
    ]
    assert {problem.kind: problem.severity for problem in found.problems} == {
        "united-masks": "warning"
    }


def test_a_second_observer_is_neither_an_image_nor_the_mask(tmp_path: Path) -> None:
    touch(tmp_path / "chase", *(f"Image_01L{kind}.png" for kind in ("", "_1stHO", "_2ndHO")))
    assert pairs(open_dataset(tmp_path / "chase")) == {"Image_01L": "Image_01L_1stHO.png"}
    touch(tmp_path / "two", "images/1.png", "masks/1_manual1.png", "masks/1_manual2.png")
    found = open_dataset(tmp_path / "two")
    assert pairs(found) == {"1": "1_manual1.png"}
    assert found.problems == ()


@pytest.mark.parametrize("folder", ["fov", "FOV", "Field_of_View"])
def test_a_folder_of_fields_of_view_is_used(tmp_path: Path, folder: str) -> None:
    touch(tmp_path, "images/a.png", "masks/a.png", "images/b.png", "masks/b.png")
    touch(tmp_path, f"{folder}/a_fov.png")
    found = open_dataset(tmp_path)
    assert [case.field_of_view and case.field_of_view.path.name for case in found.cases] == [
        "a_fov.png",
        None,
    ]
    assert [problem.found for problem in found.problems] == [
        "1 of 2 images have no field of view: b"
    ]


def test_a_field_of_view_without_image_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "masks/a.png", "fov/a.png", "fov/z.png")
    (problem,) = open_dataset(tmp_path).problems
    assert (problem.kind, problem.severity) == ("field-of-view", "error")
    assert "z.png" in problem.found


def test_the_pranet_bundle_is_read_with_its_sets(tmp_path: Path) -> None:
    touch(tmp_path, "TrainDataset/image/1.png", "TrainDataset/masks/1.png")
    for name in ("CVC-300", "Kvasir"):
        touch(tmp_path / "TestDataset" / name, "images/1.png", "masks/1.png")
    found = open_dataset(tmp_path)
    assert {case.id: case.split for case in found.cases} == {
        "TestDataset/CVC-300/1": "test",
        "TestDataset/Kvasir/1": "test",
        "TrainDataset/1": "train",
    }
    assert [case.attributes for case in found.cases] == [{"set": "CVC-300"}, {"set": "Kvasir"}, {}]
    assert "sets: CVC-300, Kvasir" in found.reason
    assert list(pairs(open_dataset(tmp_path / "TestDataset"))) == ["CVC-300/1", "Kvasir/1"]
    assert list(pairs(open_dataset(tmp_path / "TestDataset" / "Kvasir"))) == ["1"]


def test_a_folder_of_datasets_is_no_dataset(tmp_path: Path) -> None:
    for name in ("one", "two"):
        touch(tmp_path / name, "images/1.png", "masks/1.png")
    with pytest.raises(DataError, match="not a dataset"):
        open_dataset(tmp_path)


def test_a_single_class_folder_is_the_mask(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "images/b.png", "masks/0/a.png", "masks/0/b.png")
    found = open_dataset(tmp_path)
    assert [case.mask for case in found.cases] == [
        File(tmp_path / "masks" / "0" / f"{name}.png") for name in "ab"
    ]
    assert found.labels is None


def test_class_folders_become_classes(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", noise())
    save(tmp_path / "masks" / "0" / "a.png", disk(radius=6))
    save(tmp_path / "masks" / "1" / "a.png", disk(radius=3))
    save(tmp_path / "images" / "b.png", noise(1))
    save(tmp_path / "masks" / "1" / "b.png", disk(radius=3))
    found = open_dataset(tmp_path)
    first, second = (case.mask and case.mask.read_mask().values for case in found.cases)
    expected = np.maximum(disk(value=1, radius=6), disk(value=2, radius=3))
    assert np.array_equal(first, expected)
    assert np.array_equal(second, disk(value=2, radius=3))
    assert found.labels is not None
    assert found.labels.values == (0, 1, 2)
    assert "2 classes" in found.reason


def test_numbered_folders_on_both_sides_are_ordinary_folders(tmp_path: Path) -> None:
    touch(tmp_path, "images/0/a.png", "masks/0/a.png")
    assert pairs(open_dataset(tmp_path)) == {"0/a": "a.png"}


@pytest.mark.parametrize(("images", "masks"), [("img_dir", "ann_dir"), ("images", "masks")])
def test_mmsegmentation_and_ultralytics_folders_are_a_published_split(
    tmp_path: Path, images: str, masks: str
) -> None:
    for part in ("train", "val"):
        touch(tmp_path, f"{images}/{part}/{part}.jpg", f"{masks}/{part}/{part}.png")
    found = open_dataset(tmp_path)
    assert {case.id: case.split for case in found.cases} == {
        "train/train": "train",
        "val/val": "val",
    }


def test_patients_csv_gives_patients_and_attributes(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{d}/{s}.png" for d in ("images", "masks") for s in ("a", "b", "s/c")))
    (tmp_path / "patients.csv").write_text("case,patient,sex\na,p,f\nb,p,\ns/c,,m\n")
    found = open_dataset(tmp_path)
    assert [case.patient for case in found.cases] == ["p", "p", None]
    assert [case.attributes["sex"] for case in found.cases] == ["f", "", "m"]
    assert found.problems == ()


def test_patients_csv_with_mistakes_is_reported(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{d}/{s}.png" for d in ("images", "masks") for s in "ab"))
    (tmp_path / "patients.csv").write_text("case,patient\na,p\na,q\nz,p\n")
    problems = open_dataset(tmp_path).problems
    assert {problem.kind for problem in problems} == {"patients-file"}
    assert [problem.where.rpartition("line ")[2] for problem in problems[:2]] == ["3", "4"]
    assert [problem.severity for problem in problems] == ["error", "error", "warning"]


@pytest.mark.parametrize(
    ("content", "severity"),
    [(b"name,age\na,3\n", "warning"), (b"case,patient\na,p,x\n", "error"), (b"\xff", "error")],
)
def test_a_patients_csv_that_cannot_be_used_is_a_problem(
    tmp_path: Path, content: bytes, severity: str
) -> None:
    (dataset(tmp_path) / "patients.csv").write_bytes(content)
    found = open_dataset(tmp_path)
    assert [(each.kind, each.severity) for each in found.problems] == [("patients-file", severity)]
    assert len(found.cases) == 4


FOLDERS = (
    "images",
    "masks",
    "mask",
    "1st_manual",
    "fov",
    "train",
    "TestDataset",
    "masks/0",
    "0",
    "",
)
NAMES = ("a", "a_mask", "a_mask_1", "b", "b_mask_2", "a_training", "a_manual2", "\udcff", "0")


# Files are written and read: a busy machine may take long.
@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from(FOLDERS), max_size=3), st.sampled_from(NAMES)),
        max_size=8,
    ),
    st.sampled_from(["", "case,patient\na,p\n", "a\n", "\0"]),
)
def test_whatever_lies_in_folders_is_read_or_explained(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[list[str], str]], text: str
) -> None:
    root = tmp_path_factory.mktemp("fuzzed")
    for name in ("patients.csv", "train.txt") if text else ():
        (root / name).write_text(text)
    touch(root, *("/".join([*folders, f"{name}.png"]) for folders, name in files))
    with suppress(DataError):
        open_dataset(root)
