from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg.data.case import Case
from medseg.data.integrity import check_dataset
from medseg.data.layouts import open_dataset
from medseg.data.survey import Survey

from .builders import dataset, disk, noise, png_bomb, save, scene


def check(root: Path, **options: object) -> Survey:
    return check_dataset(open_dataset(root), workers=2, **options)  # type: ignore[arg-type]


def kinds(survey: Survey) -> list[str]:
    return sorted(problem.kind for problem in survey.problems)


def test_a_sound_dataset_has_no_problems_and_exact_facts(tmp_path: Path) -> None:
    survey = check(dataset(tmp_path, 4))
    facts = survey.cases[1]
    file = (tmp_path / "images" / "001.png").read_bytes()
    foreground = np.count_nonzero(disk(radius=4))
    assert survey.problems == ()
    assert survey.labels is not None
    assert survey.labels.values == (0, 255)
    assert (facts.id, facts.height, facts.width) == ("001", 16, 20)
    assert facts.pixels == (16 * 20 - foreground, foreground)
    assert facts.image_sha256 == hashlib.sha256(file).hexdigest()
    assert len(survey.usable) == 4


def test_the_survey_is_plain_json(tmp_path: Path) -> None:
    survey = check(dataset(tmp_path, 3))
    plain = json.loads(json.dumps(survey.to_json()))
    assert plain["labels"][1] == {"name": "foreground", "value": 255}
    assert plain["cases"][0]["pixels"] == list(survey.cases[0].pixels)


def test_progress_counts_to_the_number_of_cases(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    check(dataset(tmp_path, 3), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_every_bad_file_is_listed_not_only_the_first(tmp_path: Path) -> None:
    dataset(tmp_path, 12)
    whole = (tmp_path / "images" / "000.png").read_bytes()
    (tmp_path / "images" / "000.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "images" / "001.png").write_text("not an image")
    (tmp_path / "masks" / "002.png").write_bytes(b"")
    png_bomb(tmp_path / "images" / "003.png")
    save(tmp_path / "masks" / "004.png", disk((32, 40)))
    stray = disk()
    stray[0, :] = range(100, 120)
    save(tmp_path / "masks" / "005.png", stray)
    survey = check(tmp_path)
    by_kind = {problem.kind for problem in survey.errors}
    assert len(survey.errors) == 6
    assert by_kind == {
        "unreadable-image",
        "unreadable-mask",
        "size-mismatch",
        "unexpected-values",
    }
    assert [case.id for case in survey.usable] == [f"{index:03}" for index in range(6, 12)]
    assert any("20 unexpected values" in problem.found for problem in survey.errors)


def test_both_files_of_a_case_are_reported(tmp_path: Path) -> None:
    dataset(tmp_path, 3)
    for folder in ("images", "masks"):
        (tmp_path / folder / "001.png").write_text("no")
    assert kinds(check(tmp_path)) == ["unreadable-image", "unreadable-mask"]


def test_a_mask_drawn_before_exif_rotation_is_recognised(tmp_path: Path) -> None:
    dataset(tmp_path, 3)
    save(tmp_path / "images" / "001.png", noise(), orientation=6)
    (problem,) = check(tmp_path).errors
    assert problem.kind == "size-mismatch"
    assert "before its EXIF rotation" in problem.found
    save(tmp_path / "masks" / "001.png", disk(), orientation=6)
    assert check(tmp_path).problems == ()


def test_empty_and_full_masks_are_one_warning_each_with_all_names_in_json(tmp_path: Path) -> None:
    dataset(tmp_path, 10)
    for index in range(7):
        save(tmp_path / "masks" / f"{index:03}.png", disk(radius=0))
    save(tmp_path / "masks" / "007.png", disk(radius=99))
    survey = check(tmp_path)
    assert kinds(survey) == ["all-foreground", "empty-mask"]
    assert survey.errors == ()
    assert survey.to_json()["empty_masks"] == [f"{index:03}" for index in range(7)]
    assert survey.to_json()["all_foreground"] == ["007"]


def test_a_dataset_of_empty_masks_is_an_error(tmp_path: Path) -> None:
    dataset(tmp_path, 3)
    for index in range(3):
        save(tmp_path / "masks" / f"{index:03}.png", disk(radius=0))
    survey = check(tmp_path)
    assert survey.labels is None
    assert survey.usable == ()
    assert "all masks are empty" in survey.errors[0].found


def test_copies_are_found_across_file_formats(tmp_path: Path) -> None:
    dataset(tmp_path, 4)
    (tmp_path / "images" / "003.png").unlink()
    save(tmp_path / "images" / "003.bmp", noise(0))
    save(tmp_path / "masks" / "003.png", disk(radius=3))
    (problem,) = check(tmp_path).problems
    assert (problem.severity, problem.kind) == ("warning", "duplicate-image")
    assert (problem.where, "003" in problem.found) == ("000", True)


def test_one_image_with_two_masks_is_its_own_kind(tmp_path: Path) -> None:
    dataset(tmp_path, 3)
    save(tmp_path / "images" / "002.png", noise(0))
    assert kinds(check(tmp_path)) == ["same-image-different-masks"]


def test_a_copy_in_another_published_part_is_an_error(tmp_path: Path) -> None:
    dataset(tmp_path / "train", 3)
    dataset(tmp_path / "test", 1)
    survey = check(tmp_path)
    assert [problem.kind for problem in survey.errors] == ["image-in-two-splits"]


def test_a_patient_in_two_published_parts_is_an_error(tmp_path: Path) -> None:
    found = open_dataset(dataset(tmp_path, 4))
    cases: list[Case] = [
        replace(case, patient=f"p{index // 3}", split="train" if index < 2 else "test")
        for index, case in enumerate(found.cases)
    ]
    (problem,) = check_dataset(replace(found, cases=tuple(cases))).problems
    assert (problem.kind, problem.severity, problem.where) == (
        "patient-in-two-splits",
        "error",
        "p0",
    )


def test_jpeg_masks_are_snapped_with_one_warning(tmp_path: Path) -> None:
    for index in range(4):
        save(tmp_path / "images" / f"{index}.png", noise(index, (64, 64)))
        save(tmp_path / "masks" / f"{index}.jpg", disk((64, 64), radius=10 + index))
    survey = check(tmp_path)
    (problem,) = survey.problems
    assert problem.kind == "lossy-masks"
    assert "4 masks" in problem.found
    assert "{0, 255}" in problem.found
    truth = np.count_nonzero(disk((64, 64), radius=10))
    assert survey.cases[0].pixels[1] == pytest.approx(truth, rel=0.05)
    assert len(check(tmp_path, snap="never").errors) == 4


def test_colour_masks_need_and_take_a_labels_file(tmp_path: Path) -> None:
    for index in range(3):
        mask = np.zeros((16, 20, 3), np.uint8)
        mask[: index * 5, :, 0] = 255
        save(tmp_path / "images" / f"{index}.png", noise(index))
        save(tmp_path / "masks" / f"{index}.png", mask)
    (error,) = check(tmp_path).errors
    assert '{"background": [0, 0, 0], "class_1": [255, 0, 0]}' in error.remedy
    (tmp_path / "labels.json").write_text('{"background": "#000000", "blood": "#ff0000"}')
    survey = check(tmp_path)
    assert survey.errors == ()
    assert [facts.pixels for facts in survey.cases] == [(320, 0), (220, 100), (120, 200)]


def test_a_declared_class_that_never_occurs_is_a_warning(tmp_path: Path) -> None:
    dataset(tmp_path, 3)
    (tmp_path / "labels.json").write_text('{"background": 0, "cell": 255, "ghost": 7}')
    assert kinds(check(tmp_path)) == ["absent-class"]


def test_channels_are_one_only_when_every_image_is_grey(tmp_path: Path) -> None:
    dataset(tmp_path, 3)
    for index in range(3):
        grey = noise(index, channels=1)
        save(tmp_path / "images" / f"{index:03}.png", np.repeat(grey[..., None], 3, axis=2))
    assert check(tmp_path).channels == 1
    save(tmp_path / "images" / "001.png", noise(1))
    assert check(tmp_path).channels == 3


def test_unlabelled_cases_are_known_but_not_usable(tmp_path: Path) -> None:
    dataset(tmp_path, 3)
    (tmp_path / "masks" / "001.png").unlink()
    survey = check(tmp_path)
    assert [case.id for case in survey.usable] == ["000", "002"]
    assert [facts.mask_sha256 is None for facts in survey.cases] == [False, True, False]
    assert kinds(survey) == ["unpaired-image"]


def scenes(root: Path, count: int) -> Path:
    """Pictures that have nothing to do with each other, with disks as masks."""
    for index in range(count):
        save(root / "images" / f"{index:03}.png", np.asarray(scene(index)))
        save(root / "masks" / f"{index:03}.png", disk((96, 96), radius=10 + index % 5))
    return root


def recompress(source: Path, target: Path) -> None:
    with Image.open(source) as picture:
        picture.save(target, quality=60)


def test_pictures_that_differ_are_not_near(tmp_path: Path) -> None:
    survey = check(scenes(tmp_path, 12))
    assert (survey.near, survey.problems) == ((), ())


def test_a_recompressed_copy_is_a_near_duplicate_of_its_cluster(tmp_path: Path) -> None:
    scenes(tmp_path, 6)
    (tmp_path / "images" / "005.png").unlink()
    recompress(tmp_path / "images" / "001.png", tmp_path / "images" / "005.jpg")
    save(tmp_path / "images" / "004.bmp", np.asarray(scene(1)))
    (tmp_path / "images" / "004.png").unlink()
    survey = check(tmp_path)
    (pair,) = survey.near
    assert (pair.first, pair.second) == ("001", "005")
    assert 0 < pair.distance < 0.05
    assert kinds(survey) == ["near-duplicate", "same-image-different-masks"]
    alike = [case for case, key in survey.clusters.items() if key == survey.clusters["001"]]
    assert alike == ["001", "004", "005"]
    assert len(set(survey.clusters.values())) == 4


def test_near_duplicates_of_one_patient_are_not_reported(tmp_path: Path) -> None:
    scenes(tmp_path, 4)
    (tmp_path / "images" / "003.png").unlink()
    recompress(tmp_path / "images" / "001.png", tmp_path / "images" / "003.jpg")
    found = open_dataset(tmp_path)
    for patients, count in (("aaaa", 0), ("aaab", 1)):
        cases = tuple(replace(c, patient=p) for c, p in zip(found.cases, patients, strict=True))
        assert len(check_dataset(replace(found, cases=cases)).near) == count


def test_a_near_duplicate_in_another_published_part_is_an_error(tmp_path: Path) -> None:
    scenes(tmp_path / "train", 3)
    (tmp_path / "test" / "images").mkdir(parents=True)
    recompress(tmp_path / "train" / "images" / "001.png", tmp_path / "test" / "images" / "9.jpg")
    save(tmp_path / "test" / "masks" / "9.png", disk((96, 96), radius=11))
    (error,) = check(tmp_path).errors
    assert error.kind == "near-duplicate-in-two-splits"
    assert "test and train" in error.found


def test_blank_images_are_not_duplicates_of_each_other(tmp_path: Path) -> None:
    scenes(tmp_path, 4)
    for index in (1, 2):
        save(tmp_path / "images" / f"{index:03}.png", np.full((96, 96), index, np.uint8))
    survey = check(tmp_path)
    assert (survey.near, survey.problems) == ((), ())
    assert set(survey.clusters) == {"000", "003"}


def test_mean_and_deviation_are_those_of_the_grey_image(tmp_path: Path) -> None:
    scenes(tmp_path, 2)
    facts = check(tmp_path).cases[1]
    picture = np.asarray(scene(1), float)
    assert facts.mean == pytest.approx(picture.mean(), abs=0.01)
    assert facts.deviation == pytest.approx(picture.std(), abs=0.01)


def test_the_survey_in_json_has_pairs_outliers_and_sites(tmp_path: Path) -> None:
    scenes(tmp_path, 24)
    recompress(tmp_path / "images" / "001.png", tmp_path / "images" / "002.jpg")
    (tmp_path / "images" / "002.png").unlink()
    save(tmp_path / "images" / "005.png", noise(5, (200, 200)))
    save(tmp_path / "masks" / "005.png", disk((200, 200), radius=25))
    found = open_dataset(tmp_path)
    cases = tuple(replace(c, attributes={"site": f"s{i % 2}"}) for i, c in enumerate(found.cases))
    plain = json.loads(json.dumps(check_dataset(replace(found, cases=cases)).to_json()))
    assert [(pair["first"], pair["second"]) for pair in plain["near"]] == [("001", "002")]
    assert [far["cases"] for far in plain["outliers"]] == [{"005": "200 x 200"}]
    assert [(site["name"], site["cases"]) for site in plain["sites"]] == [("s0", 12), ("s1", 12)]
