from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.builders import disk, noise, save
from data.catalogue import published
from medseg.data import catalogue
from medseg.data.case import IGNORE, Label
from medseg.data.catalogue.compare import Comparison, compare
from medseg.data.catalogue.entry import PublishedSplit
from medseg.data.labels import read_classes
from medseg.data.layouts import open_dataset
from medseg.data.registry import apply
from medseg.data.survey import Survey
from medseg.errors import DataError


def compared(name: str, folder: Path, **changes: Any) -> Comparison:
    """A copy held against its entry without sizes, in which ``changes`` are made."""
    changes = {"widths": None, "heights": None, "patients": None} | changes
    return compare(replace(catalogue.load_entry(name), **changes), folder)


def verdicts(comparison: Comparison) -> dict[str, str]:
    return {finding.what: finding.verdict for finding in comparison.findings}


def parts(survey: Survey) -> dict[str, str | None]:
    return {case.id: case.split for case in survey.dataset.cases}


def test_a_whole_copy_has_no_differences(tmp_path: Path) -> None:
    found = compared("kvasir-seg", published.kvasir(tmp_path), images=4, split=None)
    assert verdicts(found) == {"layout": "same", "labels": "same", "images": "same"}
    assert found.registration.differences == ()


def test_glands_that_masks_number_are_one_class_and_names_divide_them(tmp_path: Path) -> None:
    split = PublishedSplit(
        rule="by name",
        parts={"train": 2, "test": 2},
        patterns=catalogue.load_entry("glas").split.patterns,  # type: ignore[union-attr]
    )
    found = compared("glas", published.glas(tmp_path), images=4, split=split)
    assert found.registration.differences == ()
    assert found.survey.errors == ()
    assert parts(found.survey) == {
        "train_1": "train", "train_2": "train", "testA_1": "test", "testB_1": "test",
    }  # fmt: skip
    labels = found.survey.labels
    assert labels is not None
    assert labels.names == ("background", "gland")
    assert {facts.id: facts.pixels[1] for facts in found.survey.cases}["train_1"] == 3 * 7


def test_drive_has_its_split_and_its_field_of_view(tmp_path: Path) -> None:
    found = compared("drive", published.drive(tmp_path))
    assert found.registration.differences == (
        "partial copy: 5 of 40 images",
        "split: 3 train, 2 test instead of 20 train, 20 test",
    )
    labels = found.survey.labels
    assert labels is not None
    for case in found.survey.dataset.cases:
        assert case.mask is not None
        classes = read_classes(case.mask, labels, field_of_view=case.field_of_view)
        assert (classes[:, 0] == IGNORE).all()
        assert set(classes[:, 1:].ravel().tolist()) == {0, 1}


def test_busi_unites_lesions_and_keeps_normal_tissue(tmp_path: Path) -> None:
    found = compared("busi", published.busi(tmp_path))
    assert found.registration.differences == ("partial copy: 6 of 780 images",)
    lesions = {facts.id: facts.pixels[1] for facts in found.survey.cases}
    assert lesions["benign/benign (1)"] == lesions["benign/benign (2)"] + 4
    assert lesions["normal/normal (1)"] == 0


def test_chase_holds_both_eyes_of_a_child_on_one_side(tmp_path: Path) -> None:
    found = compared("chase-db1", published.chase(tmp_path), patients=14)
    cases = found.survey.dataset.cases
    assert {case.id: case.patient for case in cases} == {
        "Image_01L": "01", "Image_01R": "01", "Image_11L": "11", "Image_11R": "11",
    }  # fmt: skip
    assert parts(found.survey)["Image_01R"] == "train"
    assert parts(found.survey)["Image_11L"] == "test"
    assert "partial copy: 2 of 14 patients" in found.registration.differences


def test_isic_is_divided_by_the_folders_of_its_archives(tmp_path: Path) -> None:
    found = compared("isic-2016", published.isic(tmp_path))
    assert set(parts(found.survey).values()) == {"train", "test"}
    assert verdicts(found)["labels"] == "same"


@pytest.mark.skipif(sys.platform == "win32", reason="the step is for a POSIX shell")
def test_montgomery_s_lungs_are_united_by_the_step_that_its_entry_gives(tmp_path: Path) -> None:
    published.montgomery(tmp_path)
    step = catalogue.load_entry("montgomery").steps[1]
    subprocess.run(["sh", "-c", step.split(": ", 1)[1]], cwd=tmp_path, check=True)
    found = compared("montgomery", tmp_path)
    assert verdicts(found)["layout"] == "same"
    assert found.survey.errors == ()
    assert {facts.pixels[1] for facts in found.survey.cases} == {8 * (5 + 6)}


def test_acdc_is_volumes_of_patients(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    for part, patient in (("training", "patient001"), ("testing", "patient101")):
        for frame in ("frame01", "frame12"):
            stem = tmp_path / part / patient / f"{patient}_{frame}"
            stem.parent.mkdir(parents=True, exist_ok=True)
            image = np.random.default_rng(0).normal(size=(12, 10, 3)).astype(np.float32)
            mask = np.zeros((12, 10, 3), np.uint8)
            mask[2:5, 2:5] = 1
            mask[5:7, 2:5] = 2
            mask[7:9, 2:5] = 3
            affine = np.diag([1.5, 1.5, 10, 1])
            nibabel.save(nibabel.Nifti1Image(image, affine), f"{stem}.nii.gz")
            nibabel.save(nibabel.Nifti1Image(mask, affine), f"{stem}_gt.nii.gz")
    found = compared("acdc", tmp_path, patients=2, images=4)
    assert verdicts(found) | {"split": "", "problems": ""} == {
        "layout": "same", "labels": "same", "volumes": "same", "patients": "same",
        "split": "", "problems": "",
    }  # fmt: skip
    assert {case.split for case in found.survey.dataset.cases} == {"train", "test"}
    assert len(found.survey.cases) == 4 * 3


def test_a_decathlon_task_may_spell_its_classes_in_its_own_way(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    names = [f"hippocampus_{number:03}.nii.gz" for number in (1, 3)]
    for name in names:
        image = np.random.default_rng(0).normal(size=(9, 8, 7)).astype(np.float32)
        mask = np.zeros((9, 8, 7), np.uint8)
        mask[2:4], mask[4:6] = 1, 2
        for folder, voxels in (("imagesTr", image), ("labelsTr", mask)):
            (tmp_path / folder).mkdir(exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / folder / name)
    declared = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior hippocampus", "2": "Posterior"},
        "training": [{"image": f"imagesTr/{name}", "label": f"labelsTr/{name}"} for name in names],
        "test": [],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(declared))
    found = compared("msd-task04-hippocampus", tmp_path)
    assert verdicts(found)["layout"] == "same"
    assert verdicts(found)["labels"] == "noted"
    assert "partial copy: 2 of 260 volumes" in found.registration.differences


def test_single_slices_of_a_set_of_volumes_are_called_that(tmp_path: Path) -> None:
    for i in range(4):
        save(tmp_path / "images" / f"patient00{i}_frame01_slice_0.png", noise(i, channels=1))
        mask = np.zeros((16, 20), np.uint8)
        mask[:4], mask[4:8], mask[8:12] = 1, 2, 3
        save(tmp_path / "masks" / f"patient00{i}_frame01_slice_0.png", mask)
    found = compared("acdc", tmp_path)
    assert "volumes: 4 single slices instead of 300" in found.registration.differences


def test_other_values_of_two_classes_keep_the_names(tmp_path: Path) -> None:
    for i in range(4):
        save(tmp_path / "images" / f"{i}.png", noise(i))
        save(tmp_path / "masks" / f"{i}.png", disk(value=1))
    found = compared("kvasir-seg", tmp_path, images=4, split=None)
    assert found.registration.differences == (
        "labels: background 0, polyp 1 instead of background 0, polyp 255",
    )
    assert found.survey.errors == ()


def test_other_values_of_more_classes_get_no_names(tmp_path: Path) -> None:
    for i in range(4):
        save(tmp_path / "images" / f"{i}.png", noise(i))
        mask = np.zeros((16, 20), np.uint8)
        mask[:4], mask[4:8] = 7, 9
        save(tmp_path / "masks" / f"{i}.png", mask)
    labels = (Label("background", 0), Label("rim", 128), Label("cup", 255))
    found = compared("kvasir-seg", tmp_path, images=4, split=None, labels=labels)
    assert found.registration.labels is None
    assert found.registration.differences == (
        "labels: background 0, class_1 7, class_2 9 instead of background 0, rim 128, cup 255",
    )


def test_one_wrong_mask_is_a_problem_and_not_another_coding(tmp_path: Path) -> None:
    for i in range(30):
        save(tmp_path / "images" / f"{i}.png", noise(i))
        save(tmp_path / "masks" / f"{i}.png", disk(value=77 if i == 3 else 255))
    found = compared("kvasir-seg", tmp_path, images=30, split=None)
    assert verdicts(found)["labels"] == "same"
    (difference,) = found.registration.differences
    assert difference.startswith("problems: 1 error (unexpected-values), first: ")
    assert str(tmp_path / "masks" / "3.png") in difference


def test_names_without_the_group_are_a_difference(tmp_path: Path) -> None:
    found = compared("tnbc", published.kvasir(tmp_path), labels=catalogue.load_entry(
        "kvasir-seg").labels, objects=False, images=4)  # fmt: skip
    assert found.registration.group_pattern is None
    (difference,) = found.registration.differences
    assert difference.startswith("groups: ")
    assert "is not found in the case 'cju0'" in difference


def test_a_difference_from_an_unverified_number_is_kept_and_called_that(tmp_path: Path) -> None:
    found = compared(
        "kvasir-seg", published.kvasir(tmp_path), images=9, split=None, unverified=("images",)
    )
    assert verdicts(found)["images"] == "unsure"
    assert found.registration.differences == ("partial copy: 4 of 9 images (unverified)",)


def test_sizes_outside_the_published_ones_are_a_difference(tmp_path: Path) -> None:
    found = compared(
        "kvasir-seg", published.kvasir(tmp_path), images=4, split=None, unverified=(),
        widths=(300, 400), heights=(16, 16),
    )  # fmt: skip
    assert found.registration.differences == (
        "sizes: 20 x 16 pixels instead of 300..400 x 16 pixels",
    )


def test_a_split_of_which_only_a_list_exists_is_said_not_to_be_applied(tmp_path: Path) -> None:
    found = compared("kvasir-seg", published.kvasir(tmp_path), images=4)
    assert verdicts(found)["split"] == "noted"
    dataset = apply(found.registration, open_dataset(tmp_path))
    (problem,) = dataset.problems
    assert (problem.severity, problem.kind) == ("warning", "published-split-unknown")


def test_a_folder_that_holds_no_dataset_is_answered_with_the_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="medseg data catalogue show drive"):
        compared("drive", tmp_path)
