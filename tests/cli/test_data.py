from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commands import left_in, medseg
from data.builders import dataset, disk, noise, save, scene, squares


def parsed(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_clean_dataset_has_no_problems(photos: Path) -> None:
    assert medseg("data", "check", photos) == (
        0,
        "20 usable of 20 cases; classes: background, foreground; colour images; 0 errors, "
        "0 warnings\n",
        "",
    )


def test_every_problem_is_listed_with_its_file_and_remedy(tmp_path: Path) -> None:
    data = dataset(tmp_path / "photos [final]", 8)
    whole = (data / "images" / "000.png").read_bytes()
    (data / "images" / "000.png").write_bytes(whole[:-40])
    (data / "images" / "001.png").write_text("hello")
    save(data / "masks" / "002.png", disk((40, 40)))
    save(data / "masks" / "003.png", (np.arange(320) % 37).reshape(16, 20).astype(np.uint8))
    save(data / "masks" / "stranger.png", disk())
    save(data / "masks" / "004.png", disk(radius=0))
    save(data / "images" / "006.png", noise(5))
    checked = medseg("data", "check", data)
    assert checked.code == 1
    assert checked.err == ""
    for text in (
        f"{data}/images/000.png",
        f"{data}/images/001.png",
        f"{data}/masks/002.png",
        f"{data}/masks/003.png",
        f"{data}/masks/stranger.png",
        "the mask is 40 x 40 pixels, the image 20 x 16",
        "36 unexpected values",
        "1 masks are empty: 004",
        "has the same pixels as 006",
        "Export the mask at the size of its image",
        "4 usable of 8 cases",
        "5 errors, 2 warnings",
    ):
        assert text in checked.out


def test_json_is_all_that_is_printed(tmp_path: Path) -> None:
    data = dataset(tmp_path / "größe")
    (data / "images" / "001.png").write_text("hello")
    checked = medseg("data", "check", data, "--json")
    assert (checked.code, checked.err) == (1, "")
    found = parsed(checked.out)
    assert found["root"] == str(data)
    assert [problem["kind"] for problem in found["problems"]] == ["unreadable-image"]
    assert len(found["cases"]) == 3


@pytest.mark.parametrize("command", ["check", "split"])
def test_masks_with_grey_edges_pass_when_they_may_be_snapped(tmp_path: Path, command: str) -> None:
    data = dataset(tmp_path / "data")
    (data / "labels.json").write_text('{"background": 0, "disk": 255}')
    mask = disk()
    mask[0, :5] = 250
    save(data / "masks" / "001.png", mask)
    output = ["-o", tmp_path / "split.csv"] if command == "split" else []
    assert medseg("data", command, data, *output).code != 0
    assert medseg("data", command, data, *output, "--snap-masks", "always").code == 0


def test_warnings_alone_leave_the_exit_code_zero(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data")
    (data / "masks" / "003.png").unlink()
    checked = medseg("data", "check", data)
    assert checked.code == 0
    assert "1 of 4 images have no mask: 003" in checked.out
    assert "0 errors, 1 warning\n" in checked.out


def test_the_report_is_written_as_its_name_says(photos: Path, tmp_path: Path) -> None:
    printed = medseg("data", "check", photos, "--json", "-o", tmp_path / "r.json").out
    assert (tmp_path / "r.json").read_text(encoding="utf-8") == printed
    checked = medseg("data", "check", photos, "-o", tmp_path / "r.html")
    assert checked.code == 0
    assert f"{tmp_path}/r.html: the report" in checked.out
    assert (tmp_path / "r.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_report_of_another_kind_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    refused = medseg("data", "check", tmp_path / "nothing", "-o", tmp_path / "report.pdf")
    assert refused.code == 2
    assert "neither .html nor .json" in refused.message


def test_images_in_two_datasets_are_a_warning(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for root, seeds in ((first, (1, 2)), (second, (2, 3))):
        for seed in seeds:
            save(root / "images" / f"{seed}.png", np.asarray(scene(seed)))
            save(root / "masks" / f"{seed}.png", disk((96, 96)))
    checked = medseg("data", "check", first, second)
    assert (checked.code, checked.err) == (0, "")
    assert f"1 image also in {second}: 2 = 2" in checked.out
    assert f"{first}: 2 usable of 2 cases" in checked.out
    assert parsed(medseg("data", "check", first, second, "--json").out)["between"]
    third = squares(tmp_path / "third", 3)
    assert "share no image that could be found" in medseg("data", "check", first, third).out


def test_many_warnings_of_a_kind_are_cut_short(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data", 12)
    for index in range(6):
        save(data / "images" / f"{index + 6:03}.png", noise(index))
    checked = medseg("data", "check", data)
    assert "... and 3 more" in checked.out
    assert "6 warnings" in checked.out


def test_the_split_has_every_case_once_in_the_wanted_shares(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "sub" / "split.csv"
    ran = medseg("data", "split", photos, "-o", out, "--ratios", "0.6,0.2,0.2")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.endswith(f"{out}: 12 train, 4 val, 4 test\n")
    found = rows(out)
    assert [row["case"] for row in found] == [f"{number:03}" for number in range(20)]
    assert Counter(row["split"] for row in found) == {"train": 12, "val": 4, "test": 4}


def test_the_split_is_the_one_that_training_uses(
    photos: Path, trained: Path, tmp_path: Path
) -> None:
    medseg("data", "split", photos, "-o", tmp_path / "split.csv")
    assert (tmp_path / "split.csv").read_bytes() == (trained / "split.csv").read_bytes()


def test_another_seed_gives_another_split(photos: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        medseg("data", "split", photos, "-o", tmp_path / f"{seed}.csv", "--seed", seed)
    assert (tmp_path / "0.csv").read_bytes() != (tmp_path / "1.csv").read_bytes()


def test_folds_validate_on_every_case_outside_the_test_part_once(
    photos: Path, tmp_path: Path
) -> None:
    validated: Counter[str] = Counter()
    tested = set()
    for fold in range(3):
        out = tmp_path / f"{fold}.csv"
        medseg("data", "split", photos, "-o", out, "--fold", fold, "--folds", 3)
        validated.update(row["case"] for row in rows(out) if row["split"] == "val")
        tested.add(frozenset(row["case"] for row in rows(out) if row["split"] == "test"))
    assert len(tested) == 1
    assert set(validated) == {f"{number:03}" for number in range(20)} - next(iter(tested))
    assert set(validated.values()) == {1}


def test_a_file_of_folds_says_where_each_case_validates(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "folds.csv"
    ran = medseg("data", "split", photos, "-o", out, "--folds", 3)
    assert ran.out.endswith(f"{out}: 18 in 3 folds, 2 test\n")
    for number in range(3):
        alone = tmp_path / f"{number}.csv"
        medseg("data", "split", photos, "-o", alone, "--folds", 3, "--fold", number)
        validated = {row["case"] for row in rows(alone) if row["split"] == "val"}
        assert validated == {row["case"] for row in rows(out) if row["fold"] == str(number)}
    assert {row["split"] for row in rows(out) if row["fold"]} == {"train"}


def test_what_the_parts_hold_is_shown(tmp_path: Path) -> None:
    data = squares(tmp_path / "data", 20, classes=3)
    (data / "labels.json").write_text('{"background": 0, "[red]liver": 1, "lesion": 2}')
    for number in range(10):
        save(data / "masks" / f"{number:03}.png", disk((24, 24), value=1))
    shown = medseg("data", "split", data, "-o", tmp_path / "split.csv").out
    table = {line.split("\u2502")[0].strip(): line.split()[-2:] for line in shown.splitlines()}
    assert table["cases"][-1] == "20"
    assert table["with [red]liver"] == ["100", "%"]
    assert table["with lesion"] == ["50", "%"]
    assert "different images" in table


def test_patients_stay_together(tmp_path: Path) -> None:
    data = squares(tmp_path / "data", 12)
    for kind in ("images", "masks"):
        for file in sorted((data / kind).iterdir()):
            number = int(file.stem)
            file.rename(file.with_name(f"patient{number // 3}_{number % 3}.png"))
    out = tmp_path / "split.csv"
    medseg("data", "split", data, "-o", out, "--group-pattern", r"patient\d+")
    parts: dict[str, set[str]] = {}
    for row in rows(out):
        assert row["patient"] == row["case"].split("_")[0]
        parts.setdefault(row["patient"], set()).add(row["split"])
    assert len(parts) == 4
    assert all(len(where) == 1 for where in parts.values())


def test_data_with_errors_is_not_split(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data")
    (data / "images" / "001.png").write_text("hello")
    refused = medseg("data", "split", data, "-o", tmp_path / "split.csv")
    assert refused.code == 2
    assert f"medseg data check {data}" in refused.err
    assert not (tmp_path / "split.csv").exists()


@pytest.mark.parametrize(
    ("options", "named", "remedy"),
    [
        (["--ratios", "0.8,0.2"], "--ratios: '0.8,0.2'", "0.8,0.1,0.1"),
        (["--ratios", "1,2,3"], "ratios: are 1.0, 2.0, 3.0", "add up to 1"),
        (["--fold", "5"], "fold: is 5 of 5", "counted from 0"),
        (["--folds", "0"], "folds: are 0", "at least 2"),
        (["--fold", "0", "--folds", "30"], "folds: 30 are asked for", "fewer folds"),
        (["--group-pattern", "x("], "'x(' is not a regular expression", "Correct it"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_split_that_cannot_be_made_is_refused_by_name(
    photos: Path, tmp_path: Path, options: list[str], named: str, remedy: str
) -> None:
    refused = medseg("data", "split", photos, "-o", tmp_path / "split.csv", *options)
    assert refused.code == 2
    assert named in refused.err
    assert remedy in refused.err
    assert left_in(tmp_path) == set()
