from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmark.grids import tiny
from commands import left_in, medseg


@pytest.fixture
def spec(photos: Path, tmp_path: Path) -> Path:
    values = tiny(tmp_path, data=[str(photos)], seeds=2)
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump({**values, "systems": ["good.py", "bad.py"]}))
    return path


def test_a_dry_run_counts_and_leaves_nothing(spec: Path, tmp_path: Path) -> None:
    before = left_in(tmp_path)
    ran = medseg("benchmark", spec, "-o", tmp_path / "out", "--dry-run", "--seeds", "5")
    assert ran.code == 0
    assert "10 cells: 10 to train, 0 finished before" in ran.out
    assert "20 labelled cases" in ran.out
    assert left_in(tmp_path) == before


def test_options_win_over_the_spec_and_paths_are_the_users(
    spec: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine.py").write_text((tmp_path / "good.py").read_text())
    monkeypatch.chdir(tmp_path / "here")
    ran = medseg(
        "benchmark", spec, "--dry-run", "--systems", "mine.py,unet-narrow", "--seeds", "4,7",
        "--unseen", photos,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert "4 cells" in ran.out
    assert "mine" in ran.out
    assert "unet-narrow" in ran.out
    assert "unseen: photos" in ran.out


def test_a_failed_cell_makes_the_exit_code_1_and_results_are_written(
    spec: Path, tmp_path: Path
) -> None:
    ran = medseg(
        "benchmark", spec, "-o", tmp_path / "out", "--seeds", "1", "--systems",
        tmp_path / "bad.py", "--device", "cpu", "--no-report",
    )  # fmt: skip
    assert ran.code == 1
    assert "FAILED  bad on photos, seed 0: ZeroDivisionError: on purpose" in ran.err
    assert "1 failure, listed in" in ran.out
    assert {"results.csv", "cells.csv", "summary.json", "spec.yaml"} <= left_in(tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "named", "remedy"),
    [
        (["--systems", "unett"], "no system 'unett'", "'unet'"),
        (["--data", "nowhere/at/all"], "nowhere/at/all", "Check the name"),
        (["--seeds", "three"], "--seeds: 'three'", "0,1,2"),
        (["--seeds", "0"], "seeds", "at least 1"),
        (["--metrics", "dise"], "'dise'", "'dice'"),
        (["--convention", "monia"], "'monia'", "'monai'"),
        (["--epochs", "0"], "train.epochs", "greater than or equal to 1"),
        (["--set", "seed=3"], "set: seed", "split_seed"),
        (["--workers", "0"], "--workers", "1 or more"),
        (["--device", "tpu"], "--device tpu", "cpu"),
        (["--cache-limit", "nan"], "--cache-limit", "gigabytes"),
        (["--compare", "none.yaml"], "none.yaml", "docs/benchmark.md"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_option_is_refused_before_anything_is_written(
    spec: Path, tmp_path: Path, options: list[str], named: str, remedy: str
) -> None:
    refused = medseg("benchmark", spec, "-o", tmp_path / "out", *options)
    assert refused.code == 2
    assert refused.err.startswith("error: ")
    assert named in refused.err
    assert remedy in refused.err
    assert not (tmp_path / "out").exists()


def test_without_systems_or_data_there_is_nothing_to_run(photos: Path) -> None:
    assert "--systems: there is nothing to run" in medseg("benchmark", "--data", photos).err
    assert "--data: there is nothing to run" in medseg("benchmark", "--systems", "unet").err


def test_encoders_are_compared_with_one_option(photos: Path, tmp_path: Path) -> None:
    asked = medseg("benchmark", "--encoders", "--data", photos, "-o", tmp_path / "o", "--dry-run")
    assert asked.code == 0
    for name in ("med2d-segnet", "encoder-plain", "encoder-residual", "encoder-mobilenetv2",
                 "encoder-convnext", "encoder-axial"):  # fmt: skip
        assert name in asked.out
