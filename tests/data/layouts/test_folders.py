from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from medseg.data.case import Dataset
from medseg.data.layouts import open_dataset
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
        touch(tmp_path / part, f"mask/{name}_mask.gif")
    found = open_dataset(tmp_path)
    assert pairs(found) == {
        "test/01_test": "01_manual1.gif",
        "training/21_training": "21_manual1.gif",
    }
    assert [case.split for case in found.cases] == ["test", "train"]
    assert kinds(found) == ["several-mask-folders"] * 2


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
