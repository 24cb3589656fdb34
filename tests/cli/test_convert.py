from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from commands import left_in, medseg
from data.builders import dataset, disk, noise
from medseg.data.convert import TARGETS


def bench(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        train_images=np.stack([noise(seed) for seed in range(3)]),
        train_label=np.stack([disk(value=1, radius=3 + seed) for seed in range(3)]),
        test_images=noise(9)[None],
        test_label=disk(value=1)[None],
    )
    return path


@pytest.mark.parametrize("target", TARGETS)
def test_an_npz_becomes_any_layout_and_is_read_again(tmp_path: Path, target: str) -> None:
    data = bench(tmp_path / "in" / "kvasir_256.npz")
    converted = medseg("data", "convert", data, "--to", target, "-o", tmp_path / "out")
    assert converted.code == 0
    assert "4 cases; 0 image files copied, 4 written anew" in converted.out
    assert left_in(tmp_path) >= {"in/kvasir_256.npz"}
    checked = medseg("data", "check", tmp_path / "out")
    assert checked.code == 0
    assert "4 usable of 4 cases" in checked.out


def test_patients_come_from_the_group_pattern(tmp_path: Path) -> None:
    data = dataset(tmp_path / "in")
    done = medseg(
        "data", "convert", data, "--to", "manifest", "-o", tmp_path / "out",
        "--group-pattern", r"\d\d",
    )  # fmt: skip
    assert done.code == 0
    rows = (tmp_path / "out" / "manifest.csv").read_text().splitlines()
    assert rows[:2] == [
        "id,image,mask,patient,split",
        "000,images/000.png,masks/000.png,00,",
    ]


def test_what_could_not_be_kept_is_said(tmp_path: Path) -> None:
    data = dataset(tmp_path / "in")
    (data / "masks" / "002.png").unlink()
    done = medseg("data", "convert", data, "--to", "coco", "-o", tmp_path / "out")
    assert done.out.endswith(
        "note: 1 unlabelled case left out: COCO takes an image without annotations for an empty "
        "one\n"
    )


def test_errors_name_the_option_or_the_file_and_leave_nothing(tmp_path: Path) -> None:
    data = dataset(tmp_path / "in")
    inside = medseg("data", "convert", data, "--to", "nnunet", "-o", data / "x")
    full = medseg("data", "convert", data, "--to", "nnunet", "-o", data / "images")
    unknown = medseg("data", "convert", data, "--to", "dicom", "-o", tmp_path / "out")
    (data / "masks" / "001.png").write_text("")
    broken = medseg("data", "convert", data, "--to", "nnunet", "-o", tmp_path / "out")
    assert [done.code for done in (inside, full, unknown, broken)] == [2] * 4
    assert "lies in the dataset that is read" in inside.message
    assert "is not an empty folder" in full.message
    assert "'dicom' is not one of" in unknown.message
    assert "001.png" in broken.message
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


def test_help_shows_a_command_for_nnunet() -> None:
    shown = medseg("data", "convert", "--help")
    assert shown.code == 0
    assert "medseg data convert photos/ --to nnunet" in shown.out
