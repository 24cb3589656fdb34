from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from commands import left_in
from data.builders import dataset, disk, noise, save
from medseg.data.case import IGNORE, Case, Dataset, Label, LabelMap, Region, Split
from medseg.data.convert import TARGETS, convert_dataset
from medseg.data.convert.coco import compressed
from medseg.data.convert.names import is_safe, path_names, plain_names
from medseg.data.expand import Subject, expand
from medseg.data.integrity import check_dataset
from medseg.data.labels import read_classes
from medseg.data.layouts import open_dataset
from medseg.data.shapes import fill_runs, parse_counts
from medseg.data.survey import Survey
from medseg.errors import DataError, MedsegError


def surveyed(root: Path) -> Survey:
    return check_dataset(open_dataset(root), workers=1)


def of_cases(root: Path, cases: list[Case], labels: LabelMap, **more: Any) -> Survey:
    cases = sorted(cases, key=lambda case: case.id)
    survey = check_dataset(Dataset(root, "test", "", tuple(cases), labels, **more), workers=1)
    assert survey.errors == ()
    return survey


def cases_in(folder: Path, ids: list[str], values: tuple[int, ...] = (0, 1), **more: Any) -> Any:
    """Cases with random masks of ``values``."""
    cases = []
    for index, name in enumerate(ids):
        rng = np.random.default_rng(index)
        image = save(folder / f"{index}.png", noise(index))
        mask = save(folder / f"{index}_m.png", rng.choice(values, (16, 20)).astype(np.uint8))
        cases += expand(Subject(name, [image], [mask], **more))[0]
    return cases


TWO = LabelMap((Label("background", 0), Label("nucleus", 1)))


def test_files_are_copied_where_the_layout_takes_them(tmp_path: Path) -> None:
    save(tmp_path / "in" / "images" / "a.jpg", noise(1), quality=80)
    save(tmp_path / "in" / "images" / "b.png", noise(2))
    for name in "ab":
        save(tmp_path / "in" / "masks" / f"{name}.png", disk())
    written = convert_dataset(surveyed(tmp_path / "in"), "images-masks", tmp_path / "out")
    assert (written.copied, written.encoded) == (2, 0)
    for name in ("images/a.jpg", "images/b.png", "masks/a.png"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "in" / name).read_bytes()


def test_nnunet_gets_png_of_the_decoded_pixels(tmp_path: Path) -> None:
    jpeg = save(tmp_path / "in" / "images" / "a.jpg", noise(1), quality=80, orientation=6)
    save(tmp_path / "in" / "masks" / "a.png", disk((20, 16)))
    save(tmp_path / "in" / "images" / "b.png", noise(2, channels=1))
    save(tmp_path / "in" / "masks" / "b.png", disk())
    before = surveyed(tmp_path / "in")
    convert_dataset(before, "nnunet", tmp_path / "out")
    assert left_in(tmp_path / "out") == {
        "dataset.json",
        "imagesTr/a_0000.png",
        "imagesTr/b_0000.png",
        "labelsTr/a.png",
        "labelsTr/b.png",
    }
    with Image.open(tmp_path / "out" / "imagesTr" / "a_0000.png") as image:
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), before.dataset.cases[0].image.read_image())
    with Image.open(tmp_path / "out" / "imagesTr" / "b_0000.png") as image:
        assert image.mode == "RGB"
    declared = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert declared["channel_names"] == {"0": "R", "1": "G", "2": "B"}
    assert declared["labels"] == {"background": 0, "foreground": 1}
    assert (declared["numTraining"], declared["file_ending"]) == (2, ".png")
    assert jpeg.exists()


@pytest.mark.parametrize("channels", [2, 3, 5])
@pytest.mark.parametrize("target", ["nnunet", "manifest", "datalist"])
def test_channels_in_files_of_their_own_stay_so(tmp_path: Path, target: str, channels: int) -> None:
    cases = []
    for name in "ab":
        parts = [
            save(tmp_path / f"{name}{k}.png", noise(k + ord(name), channels=1))
            for k in range(channels)
        ]
        cases += expand(Subject(name, parts, [save(tmp_path / f"{name}m.png", disk(value=1))]))[0]
    before = of_cases(tmp_path / "in", cases, TWO)
    convert_dataset(before, target, tmp_path / "out")
    after = surveyed(tmp_path / "out")
    assert after.channels == channels
    for ours, theirs in zip(before.dataset.cases, after.dataset.cases, strict=True):
        assert np.array_equal(ours.image.read_image(), theirs.image.read_image())


@pytest.mark.parametrize("target", ["images-masks", "coco"])
def test_images_of_two_channels_are_refused_where_files_cannot_hold_them(
    tmp_path: Path, target: str
) -> None:
    parts = [save(tmp_path / f"{k}.png", noise(k, channels=1)) for k in range(2)]
    mask = save(tmp_path / "m.png", disk(value=1))
    survey = of_cases(tmp_path / "in", expand(Subject("a", parts, [mask]))[0], TWO)
    with pytest.raises(DataError, match=r"has 2 channels.*nnunet, datalist or manifest"):
        convert_dataset(survey, target, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "coco"])
def test_ignored_pixels_stay_ignored(tmp_path: Path, target: str) -> None:
    labels = replace(TWO, ignore=9)
    view = np.zeros((16, 20), np.uint8)
    view[:, 5:] = 255
    fov = save(tmp_path / "fov.png", view)
    cases = cases_in(tmp_path, ["a", "b"], (0, 1, 9))
    cases += expand(
        Subject(
            "c",
            [save(tmp_path / "c.png", noise(9))],
            [save(tmp_path / "cm.png", disk(value=1))],
            field_of_view=fov,
        )
    )[0]
    before = of_cases(tmp_path / "in", cases, labels)
    convert_dataset(before, target, tmp_path / "out")
    after = surveyed(tmp_path / "out")
    assert after.labels is not None
    for ours, theirs in zip(before.dataset.cases, after.dataset.cases, strict=True):
        assert ours.mask is not None
        assert theirs.mask is not None
        classes = read_classes(theirs.mask, after.labels, field_of_view=theirs.field_of_view)
        assert np.array_equal(
            classes, read_classes(ours.mask, labels, field_of_view=ours.field_of_view)
        )
        assert (classes == IGNORE).any()


def test_coco_refuses_ignored_pixels(tmp_path: Path) -> None:
    labels = replace(TWO, ignore=9)
    survey = of_cases(tmp_path / "in", cases_in(tmp_path, ["a", "b"], (0, 1, 9)), labels)
    with pytest.raises(DataError, match=r"pixels that nothing is known of.*Convert to nnunet"):
        convert_dataset(survey, "coco", tmp_path / "out")
    assert left_in(tmp_path) == {"0.png", "0_m.png", "1.png", "1_m.png"}


@pytest.mark.parametrize("target", ["nnunet", "datalist"])
def test_regions_are_kept_where_there_is_a_place_for_them(tmp_path: Path, target: str) -> None:
    labels = LabelMap(
        (
            Label("background", 0),
            Label("whole (1)", 1),
            Label("core (2)", 2),
            Label("enhancing", 3),
        ),
        regions=(
            Region("whole", (1, 2, 3)),
            Region("core", (2, 3)),
            Region("enhancing", (3,)),
        ),
    )
    cases = cases_in(tmp_path, ["a", "b"], (0, 1, 2, 3))
    convert_dataset(of_cases(tmp_path / "in", cases, labels), target, tmp_path / "out")
    assert open_dataset(tmp_path / "out").labels == labels
    if target == "nnunet":
        declared = json.loads((tmp_path / "out" / "dataset.json").read_text())
        assert declared["labels"] == {
            "background": 0,
            "whole": [1, 2, 3],
            "core": [2, 3],
            "enhancing": [3],
        }
        assert declared["regions_class_order"] == [1, 2, 3]


@pytest.mark.parametrize("target", ["images-masks", "manifest", "coco"])
def test_regions_that_are_lost_are_named(tmp_path: Path, target: str) -> None:
    labels = replace(TWO, regions=(Region("everything", (1,)),))
    cases = cases_in(tmp_path, ["a", "b"])
    written = convert_dataset(of_cases(tmp_path / "in", cases, labels), target, tmp_path / "out")
    assert any("regions not kept" in note and "everything" in note for note in written.notes)


@pytest.mark.parametrize("target", ["nnunet", "datalist"])
def test_published_folds_are_kept(tmp_path: Path, target: str) -> None:
    ids = ["a", "b", "c", "d"]
    folds = tuple(
        {case_id: "val" if index % 2 == fold else "train" for index, case_id in enumerate(ids)}
        for fold in range(2)
    )
    cases = [*cases_in(tmp_path, ids), *cases_in(tmp_path / "t", ["e"], split="test")]
    before = of_cases(tmp_path / "in", cases, TWO, folds=folds)
    convert_dataset(before, target, tmp_path / "out")
    after = open_dataset(tmp_path / "out")
    assert after.folds == folds
    assert {case.id: case.split for case in after.cases} == {
        **dict.fromkeys(ids),
        "e": "test",
    }


@pytest.mark.parametrize("target", TARGETS)
def test_a_published_test_part_stays_the_test_part(tmp_path: Path, target: str) -> None:
    parts: tuple[Split, ...] = ("train", "val", "test", "train")
    cases = [
        replace(case, split=split)
        for case, split in zip(cases_in(tmp_path, ["c0", "c1", "c2", "c3"]), parts, strict=True)
    ]
    convert_dataset(of_cases(tmp_path / "in", cases, TWO), target, tmp_path / "out")
    found = open_dataset(tmp_path / "out").cases
    assert tuple(case.split for case in found) == parts


def test_a_published_split_that_leaks_is_kept_and_named(tmp_path: Path) -> None:
    cases = [
        replace(case, split="test" if case.id == "a" else "train", patient="p1")
        for case in cases_in(tmp_path, ["a", "b"])
    ]
    labelled = Dataset(tmp_path / "in", "test", "", tuple(cases), TWO)
    written = convert_dataset(check_dataset(labelled, workers=1), "manifest", tmp_path / "out")
    assert written.notes == ("the published split leaks, and is kept: 1 leak",)


def test_unlabelled_cases_are_kept_or_named(tmp_path: Path) -> None:
    bare = expand(Subject("u", [save(tmp_path / "u.png", noise(77))]))[0]
    survey = of_cases(tmp_path / "in", [*cases_in(tmp_path, ["a", "b"]), *bare], TWO)
    for target in TARGETS:
        written = convert_dataset(survey, target, tmp_path / target)
        masks = {case.id: case.mask for case in open_dataset(tmp_path / target).cases}
        if target in ("coco", "nnunet"):
            assert masks.keys() == {"a", "b"}
            assert any("1 unlabelled case left out" in note for note in written.notes)
        else:
            assert masks["u"] is None
            assert masks.keys() == {"a", "b", "u"}


@pytest.mark.parametrize("target", TARGETS)
def test_attributes_that_mean_something_else_there_are_renamed(tmp_path: Path, target: str) -> None:
    attributes = {"id": "7", "file_name": "x", "fold": "2", "Sex": "f", "image": "y", "case": "z"}
    cases = cases_in(tmp_path, ["a", "b"], attributes=attributes)
    convert_dataset(of_cases(tmp_path / "in", cases, TWO), target, tmp_path / "out")
    found = open_dataset(tmp_path / "out").cases
    assert [case.id for case in found] == ["a", "b"]
    assert sorted(found[0].attributes.values()) == sorted(attributes.values())


def test_ids_that_look_like_a_split_do_not_make_one(tmp_path: Path) -> None:
    cases = cases_in(tmp_path, ["train/1", "test/1"])
    convert_dataset(of_cases(tmp_path / "in", cases, TWO), "images-masks", tmp_path / "out")
    found = open_dataset(tmp_path / "out").cases
    assert [(case.id, case.split) for case in found] == [("test_1", None), ("train_1", None)]


def test_lossy_masks_are_written_with_their_clean_values(tmp_path: Path) -> None:
    dataset(tmp_path / "in", 4, suffix=".jpg")
    before = surveyed(tmp_path / "in")
    convert_dataset(before, "images-masks", tmp_path / "out")
    after = surveyed(tmp_path / "out")
    assert after.labels == before.labels
    assert not any(problem.kind == "lossy-masks" for problem in after.problems)


def test_colour_coded_masks_keep_their_colours(tmp_path: Path) -> None:
    dataset(tmp_path / "in", 3)
    for path in (tmp_path / "in" / "masks").iterdir():
        grey = np.asarray(Image.open(path))
        save(path, np.stack([grey, grey * 0, grey * 0], axis=2))
    (tmp_path / "in" / "labels.json").write_text('{"background": [0, 0, 0], "a": [255, 0, 0]}')
    before = surveyed(tmp_path / "in")
    for target in ("images-masks", "manifest", "datalist"):
        convert_dataset(before, target, tmp_path / target)
        assert surveyed(tmp_path / target).labels == before.labels


def test_nothing_is_left_when_a_file_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.data.convert import items

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(items.shutil, "copyfile", full)
    before = surveyed(dataset(tmp_path / "in"))
    with pytest.raises(MedsegError, match=r"out: could not be written \(No space left"):
        convert_dataset(before, "images-masks", tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


def test_the_output_is_never_in_the_way_of_anything(tmp_path: Path) -> None:
    before = surveyed(dataset(tmp_path / "in"))
    save(tmp_path / "full" / "a.png", noise())
    with pytest.raises(MedsegError, match="is not an empty folder"):
        convert_dataset(before, "manifest", tmp_path / "full")
    with pytest.raises(MedsegError, match="lies in the dataset"):
        convert_dataset(before, "manifest", tmp_path / "in" / "out")
    (tmp_path / "empty").mkdir()
    convert_dataset(before, "manifest", tmp_path / "empty")
    assert (tmp_path / "empty" / "manifest.csv").exists()


def test_a_dataset_with_errors_is_not_converted(tmp_path: Path) -> None:
    dataset(tmp_path / "in")
    (tmp_path / "in" / "images" / "000.png").write_text("hello")
    with pytest.raises(DataError, match=r"1 error in the data.*000\.png"):
        convert_dataset(surveyed(tmp_path / "in"), "manifest", tmp_path / "out")


@given(st.lists(st.text(min_size=1, max_size=8), max_size=6, unique=True))
def test_plain_names_are_safe_and_unique_in_any_case(ids: list[str]) -> None:
    names = list(plain_names(ids).values())
    assert all(is_safe(name) and name.isascii() and "/" not in name for name in names)
    assert len({name.lower() for name in names}) == len(ids)


def test_ids_stay_paths_where_they_can_lie_side_by_side() -> None:
    assert path_names(["a/é 1", "b"]) == {"a/é 1": "a/é 1", "b": "b"}
    assert path_names(["A", "a"]) == {"A": "A", "a": "a_2"}
    assert path_names(["con/x", "b:c"]) == {"con/x": "con_x", "b:c": "b_c"}


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_run_lengths_are_read_back_exactly(inside: Any) -> None:
    counts = parse_counts(compressed(inside))
    assert np.array_equal(fill_runs(counts, *inside.shape), inside)


def test_run_lengths_go_column_by_column_from_outside() -> None:
    inside = np.zeros((9, 10), bool)
    inside[2:7, 3:8] = True
    assert parse_counts(compressed(inside)).tolist() == [29, *[5, 4] * 4, 5, 20]
    assert parse_counts(compressed(~inside)).tolist() == [0, 29, *[5, 4] * 4, 5, 20]


def test_run_lengths_are_written_as_the_coco_api_writes_them() -> None:
    column = np.zeros((13, 1), bool)
    column[:6] = column[7:] = True
    assert compressed(column) == "0610"
    assert compressed(np.ones((32, 32), bool)) == "0PP1"


@pytest.mark.parametrize("target", ["images-masks", "manifest", "coco"])
def test_folds_that_are_lost_are_named(tmp_path: Path, target: str) -> None:
    folds = ({"a": "val", "b": "train"}, {"a": "train", "b": "val"})
    before = of_cases(tmp_path / "in", cases_in(tmp_path, ["a", "b"]), TWO, folds=folds)
    written = convert_dataset(before, target, tmp_path / "out")
    assert written.notes == ("2 published folds not kept: this layout has no place for them",)


def test_two_cases_never_share_a_file(tmp_path: Path) -> None:
    cases = cases_in(tmp_path, ["a_0000", "b"])
    parts = [save(tmp_path / f"part{k}.png", noise(k + 50, channels=1)) for k in range(3)]
    cases += expand(Subject("a", parts, [save(tmp_path / "am.png", disk(value=1))]))[0]
    survey = of_cases(tmp_path / "in", cases, TWO)
    with pytest.raises(DataError, match=r"a_0000\.png: would be the name of two files"):
        convert_dataset(survey, "manifest", tmp_path / "out")


def test_a_background_of_another_name_is_said_to_change(tmp_path: Path) -> None:
    labels = LabelMap((Label("nothing", 0), Label("nucleus", 1)))
    before = of_cases(tmp_path / "in", cases_in(tmp_path, ["a", "b"]), labels)
    written = convert_dataset(before, "coco", tmp_path / "out")
    assert written.notes == ("classes renamed: 'nothing' to 'background'",)
    for target in ("nnunet", "manifest", "datalist", "images-masks"):
        assert convert_dataset(before, target, tmp_path / target).notes == ()
