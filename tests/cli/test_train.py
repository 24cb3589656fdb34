from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from commands import TINY, left_in, medseg, parts_of
from medseg.engine import loop as loop_module

NETWORK = """
from torch import nn

class Small(nn.Module):
    def __init__(self, *, in_channels=3, num_classes=1, width=4):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, num_classes, 1)
        )

    def forward(self, image):
        return self.layers(image)
"""


def recipe(run: Path) -> dict[str, Any]:
    stored: dict[str, Any] = yaml.safe_load((run / "recipe.yaml").read_text())
    return stored


def test_a_run_holds_everything_and_nothing_half_written(trained: Path) -> None:
    files = {name for name in left_in(trained) if not name.startswith(("cache/", "masks/"))}
    # Other tests score its test part.
    assert files - {"test_openings.jsonl"} == {
        "recipe.yaml",
        "split.csv",
        "data.json",
        "plan.json",
        "metrics.jsonl",
        "model.medseg",
        "report.html",
        "checkpoints/best.safetensors",
        "checkpoints/last.safetensors",
        "scores/val.csv",
        "scores/val.json",
    }
    assert not [name for name in left_in(trained) if ".part" in name]


def test_progress_goes_to_stderr_and_what_was_made_to_stdout(photos: Path, tmp_path: Path) -> None:
    ran = medseg("train", photos, "-o", tmp_path / "run", *TINY, "--epochs", 2)
    assert ran.code == 0
    for line in ("epoch 1/2 ", "epoch 2/2 ", "16 train, 2 val, 2 test", "med2d-segnet", "MB in"):
        assert line in ran.err
    assert "epoch 1/2" not in ran.out
    for path in (tmp_path / "run" / "report.html", tmp_path / "run" / "model.medseg"):
        assert str(path) in ran.out
        assert path.is_file()


def test_the_next_commands_that_are_suggested_can_be_pasted(photos: Path, tmp_path: Path) -> None:
    ran = medseg("train", photos, "-o", tmp_path / "my first run", *TINY)
    assert f"medseg predict '{tmp_path / 'my first run'}' IMAGES" in ran.out
    assert f"medseg evaluate {photos} '{tmp_path / 'my first run'}'" in ran.out


def test_the_options_are_in_the_recipe(photos: Path, tmp_path: Path) -> None:
    options = ["--seed", 7, "--patience", 3, "--fold", 1, "--precision", "fp32"]
    assert medseg("train", photos, "-o", tmp_path / "run", *TINY, *options).code == 0
    stored = recipe(tmp_path / "run")
    assert (stored["seed"], stored["train"]["patience"], stored["data"]["fold"]) == (7, 3, 1)
    assert stored["data"]["image_size"] == 16
    assert stored["train"]["epochs"] == 1
    assert stored["network"]["widths"] == [8, 8, 8]


def test_set_wins_over_an_option(photos: Path, tmp_path: Path) -> None:
    medseg("train", photos, "-o", tmp_path / "run", *TINY, "--set", "train.epochs=2")
    assert recipe(tmp_path / "run")["train"]["epochs"] == 2


def test_patients_found_by_a_pattern_are_not_divided(photos: Path, tmp_path: Path) -> None:
    # 000..009 and 010..019 are two patients.
    pattern = r"^\d\d"
    assert (
        medseg("train", photos, "-o", tmp_path / "run", *TINY, "--group-pattern", pattern)[0] == 0
    )
    with (tmp_path / "run" / "split.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["patient"], row["split"]) for row in rows} in (
        {("00", "train"), ("01", "val")},
        {("01", "train"), ("00", "val")},
    )


def test_a_split_file_is_followed(photos: Path, tmp_path: Path) -> None:
    medseg("data", "split", photos, "-o", tmp_path / "split.csv", "--seed", 5)
    options = ["--split", tmp_path / "split.csv"]
    assert medseg("train", photos, "-o", tmp_path / "run", *TINY, *options).code == 0
    mine, used = tmp_path / "split.csv", tmp_path / "run" / "split.csv"
    assert used.read_bytes() == mine.read_bytes()


@pytest.mark.parametrize("text", ["case,split\n000,train\nstranger,val\n", "nonsense\n"])
def test_a_split_file_of_other_data_is_refused_by_name(
    photos: Path, tmp_path: Path, text: str
) -> None:
    (tmp_path / "split.csv").write_text(text)
    options = ["--split", tmp_path / "split.csv"]
    refused = medseg("train", photos, "-o", tmp_path / "run", *TINY, *options)
    assert refused.code == 2
    assert str(tmp_path / "split.csv") in refused.err
    assert left_in(tmp_path) == {"split.csv"}


def test_without_an_output_runs_get_a_name_of_their_own(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photos-med2d-segnet", "photos-med2d-segnet-2"):
        assert medseg("train", photos, *TINY).code == 0
        assert (tmp_path / "runs" / name / "model.medseg").is_file()


def test_the_validation_part_is_reported_and_the_test_part_left_alone(trained: Path) -> None:
    parts = parts_of(trained)
    scored = json.loads((trained / "scores" / "val.json").read_text())
    assert {row["case"] for row in scored["cases"]} == parts["val"]
    assert "checkpoint" in scored["note"]
    report = (trained / "report.html").read_text()
    assert parts["test"]
    assert not [case for case in parts["test"] if f">{case}<" in report]


def test_a_folder_in_use_is_kept_and_resume_named(photos: Path, trained: Path) -> None:
    before = (trained / "model.medseg").read_bytes()
    refused = medseg("train", photos, "-o", trained, *TINY)
    assert refused.code == 2
    assert f"-o {trained}" in refused.err
    assert "--resume" in refused.err
    assert (trained / "model.medseg").read_bytes() == before


def test_a_folder_in_which_a_run_was_killed_before_its_first_step_can_be_used(
    photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "run" / "cache" / "0a1b.2c3d.part").mkdir(parents=True)
    (tmp_path / "run" / "split.csv").write_text("case,split,patient\n")
    assert medseg("train", photos, "-o", tmp_path / "run", *TINY).code == 0


def test_a_stopped_run_says_how_to_go_on_and_goes_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = loop_module.TrainingLoop._step

    def stopping(self: loop_module.TrainingLoop, batch: Any) -> dict[str, float]:
        self.stop_asked = True
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(loop_module.TrainingLoop, "_step", stopping)
        stopped = medseg("train", photos, "-o", tmp_path / "a run", *TINY)
    assert stopped.code == 130
    assert f"medseg train {photos} -o '{tmp_path / 'a run'}' --resume" in stopped.err
    assert "error" not in stopped.err
    resumed = medseg("train", photos, "-o", tmp_path / "a run", "--resume", "--device", "cpu")
    assert resumed.code == 0
    assert "resumed  at epoch 1, step 1" in resumed.err


def test_a_network_from_a_python_file_is_trained_reported_and_scored(
    photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "small net.py").write_text(NETWORK)
    system = ["--system", tmp_path / "small net.py"]
    ran = medseg(
        "train", photos, *system, "-o", tmp_path / "run", "--image-size", 16, "--epochs", 1,
        "--device", "cpu", "--set", "network.width=6",
    )  # fmt: skip
    assert ran.code == 0
    assert f"--system '{tmp_path / 'small net.py'}'" in ran.out
    assert (tmp_path / "run" / "report.html").is_file()
    scored = medseg("evaluate", photos, tmp_path / "run", *system)
    assert scored.code == 0
    unnamed = medseg("evaluate", photos, tmp_path / "run")
    assert unnamed.code == 2
    assert "--system" in unnamed.err


@pytest.mark.parametrize(
    ("options", "named", "remedy"),
    [
        (["--set", "train.epoch=3"], "--set train.epoch:", "Did you mean 'train.epochs'?"),
        (["--set", "network.expantion=3"], "network.expantion:", "Did you mean 'expansion'?"),
        (["--set", "seed"], "--set seed:", "key=value"),
        (["--set", "network.kernel=many"], "network.kernel:", "valid integer"),
        (["--system", "unett"], "unett", "Did you mean 'unet'?"),
        (["--system", "missing.py"], "missing.py", "existing .py file"),
        (["--epochs", "0"], "train.epochs: 0", "greater than or equal to 1"),
        (["--batch-size", "many"], "train.batch_size: 'many'", "'auto'"),
        (["--image-size", "8"], "data.image_size: 8", "greater than or equal to 16"),
        (["--fold", "9", "--set", "data.folds=5"], "'fold': 9", "folds 0..4"),
        (["--precision", "fp8"], "train.precision: 'fp8'", "'bf16'"),
        (["--device", "tpu"], "--device tpu", "cuda:0"),
        (["--cache-limit", "nan"], "--cache-limit: nan", "gigabytes"),
        (["--seed", "-1"], "seed: -1", "greater than or equal to 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_option_is_refused_by_name_before_data_is_read(
    tmp_path: Path, options: list[str], named: str, remedy: str
) -> None:
    refused = medseg("train", tmp_path / "absent", "-o", tmp_path / "run", *TINY, *options)
    assert refused.code == 2
    assert refused.err.startswith("error: ")
    assert named in refused.err
    assert remedy in refused.err
    assert left_in(tmp_path) == set()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--group-pattern", "("], "'(' is not a regular expression"),
        (["--group-pattern", "site"], "'site' is not found in the case '000'"),
        (["--batch-size", "50"], "--batch-size 50: only 16 training images"),
        (["--cache-limit", "0.000001"], "--cache-limit: the cache needs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_option_that_does_not_fit_the_data_is_refused_and_leaves_nothing(
    photos: Path, tmp_path: Path, options: list[str], named: str
) -> None:
    refused = medseg("train", photos, "-o", tmp_path / "run", *TINY, *options)
    assert refused.code == 2
    assert named in refused.err
    assert left_in(tmp_path) == set()


def test_resuming_without_naming_the_run_is_refused(photos: Path) -> None:
    refused = medseg("train", photos, "--resume")
    assert refused.code == 2
    assert "with -o" in refused.err


def test_resuming_with_another_option_is_refused_by_name(photos: Path, trained: Path) -> None:
    refused = medseg("train", photos, "-o", trained, "--resume", "--seed", 3)
    assert refused.code == 2
    assert "begun with another seed" in refused.err


def test_resuming_a_finished_run_leaves_its_model_and_report_as_they_are(
    photos: Path, trained: Path
) -> None:
    before = {name: (trained / name).read_bytes() for name in ("model.medseg", "scores/val.csv")}
    assert medseg("train", photos, "-o", trained, "--resume", "--device", "cpu").code == 0
    assert {name: (trained / name).read_bytes() for name in before} == before
