from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import medseg as medseg_package
from commands import TINY, medseg, parts_of
from data.builders import noise, save, squares
from medseg.data.cache import CaseCache, open_cache
from medseg.engine import loop as loop_module
from medseg.engine import prepare as prepare_module
from medseg.engine.checkpoint import load_checkpoint
from medseg.engine.loop import Interrupted
from medseg.engine.pretrain import pretrain
from medseg.errors import ModelError
from medseg.inference.bundle import read_manifest

SETTINGS = ("network.widths=[8,8,8]", "network.depths=[1,1]", "network.kernel=3")


def train(data: list[Path], output: Path, **options: object) -> Path:
    defaults = {"image_size": 16, "epochs": 2, "batch_size": 2, "device": "cpu"}
    return pretrain(
        data,
        output=output,
        settings=(*SETTINGS, "method_options.patch=4"),
        quiet=True,
        **{**defaults, **options},  # type: ignore[arg-type]
    ).folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("pretraining")
    squares(root / "a")
    for index in range(10):
        save(root / "b" / "images" / f"{index}.png", noise(100 + index, channels=1))
        save(root / "b" / "masks" / f"{index}.png", noise(index, channels=1) // 128 * 255)
    return [root / "a", root / "b"]


@pytest.fixture(scope="module")
def run(data: list[Path]) -> Path:
    return train(data, data[0].parent / "run")


def images_of(run: Path, part: str, name: str) -> set[str]:
    """Hashes of the images of a part, from the run's split and an ordinary training's list."""
    import csv
    import hashlib

    root = run.parent / name
    with (run / "splits" / f"{name}.csv").open(newline="") as file:
        cases = [row["case"] for row in csv.DictReader(file) if row["split"] == part]
    files = [root / "images" / f"{case}.png" for case in cases]
    return {hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files}


def test_it_knows_the_images_for_training_and_validation_and_none_for_testing(run: Path) -> None:
    seen = set(read_manifest(run / "model.medseg").data["seen"])
    for name in ("a", "b"):
        assert images_of(run, "train", name) | images_of(run, "val", name) <= seen
        assert images_of(run, "test", name)
        assert not images_of(run, "test", name) & seen


def test_images_for_testing_are_not_cached(
    data: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached: list[str] = []

    def watch(cases, *arguments, **options) -> CaseCache:  # type: ignore[no-untyped-def]
        cached.extend(case.id for case in cases)
        return open_cache(cases, *arguments, **options)

    monkeypatch.setattr(prepare_module, "open_cache", watch)
    made = train(data[:1], tmp_path / "run", epochs=1)
    with (made / "splits" / "a.csv").open() as file:
        split = dict(line.split(",")[:2] for line in file)
    assert {split[case] for case in cached} == {"train", "val"}


def test_masks_are_not_learnt_from(run: Path, data: list[Path], tmp_path: Path) -> None:
    """With other masks, the same weights."""
    other = squares(tmp_path / "a")
    for index, file in enumerate(sorted((other / "masks").iterdir())):
        save(file, np.roll(noise(index, (24, 24), 1) // 128 * 255, index, 0))
    given = data[0].parent / "run" / "splits" / "a.csv"
    table = tmp_path / "a.csv"
    lines = [",".join(line.split(",")[:2]) for line in given.read_text().splitlines()]
    table.write_text("\n".join(lines) + "\n")
    first, second = (
        train([where], tmp_path / name, splits=[table], epochs=1)
        for name, where in (("one", data[0]), ("two", other))
    )
    ours, theirs = (read_manifest(r / "model.medseg").weights_sha256 for r in (first, second))
    assert ours == theirs


def test_the_score_says_what_it_is(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(0 < row["val_restored"] < 1 and "val_dice" not in row for row in rows)
    assert read_manifest(run / "model.medseg").scores.keys() == {"val_restored"}


def test_it_predicts_no_masks(run: Path, data: list[Path], tmp_path: Path) -> None:
    done = medseg("predict", run, data[0] / "images", "-o", tmp_path / "masks")
    assert done.code == 2
    assert "predicts no masks" in done.message
    assert not (tmp_path / "masks").exists()


def test_a_stopped_run_goes_on_to_the_same_bits(
    run: Path, data: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = loop_module.TrainingLoop._step
    taken = 0

    def interrupted(self, batch):  # type: ignore[no-untyped-def]
        nonlocal taken
        taken += 1
        if taken == 12:
            self.stop_asked = True
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(loop_module.TrainingLoop, "_step", interrupted)
        with pytest.raises(Interrupted, match=r"medseg pretrain .* --resume"):
            train(data, tmp_path / "run")
    resumed = pretrain(data, output=tmp_path / "run", resume=True, device="cpu", quiet=True).folder
    whole, _ = load_checkpoint(run / "checkpoints" / "last.safetensors")
    parts, _ = load_checkpoint(resumed / "checkpoints" / "last.safetensors")
    for group, tensors in whole.items():
        for name, tensor in tensors.items():
            assert (tensor == parts[group][name]).all(), name


def test_plain_training_refuses_the_method(data: list[Path], tmp_path: Path) -> None:
    done = medseg("train", data[0], *TINY, "-o", tmp_path / "run", "--set", "method=reconstruction")
    assert done.code == 2
    assert "Use medseg pretrain" in done.message


def test_it_starts_from_random_weights(data: list[Path], tmp_path: Path) -> None:
    done = medseg("pretrain", *data, "-o", tmp_path / "run", "--set", "init=polyp")
    assert done.code == 2
    assert "pre-training starts from random weights" in done.message


def test_a_training_starts_from_it(run: Path, data: list[Path], tmp_path: Path) -> None:
    done = medseg("train", data[0], *TINY, "-o", tmp_path / "run", "--set", f"init={run}")
    assert done.code == 0, done.err
    assert "carried over" in done.message
    assert parts_of(tmp_path / "run")["test"]


def test_the_command_says_what_comes_next(data: list[Path], tmp_path: Path) -> None:
    settings = [option for each in SETTINGS for option in ("--set", each)]
    done = medseg(
        "pretrain", *data, "-o", tmp_path / "run", "--image-size", 16, "--epochs", 1,
        "--batch-size", 2, "--device", "cpu", *settings,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert f"medseg train DATA --init {tmp_path / 'run'}" in done.out


def test_a_split_is_given_for_each_dataset_or_for_none(data: list[Path], tmp_path: Path) -> None:
    done = medseg("pretrain", *data, "-o", tmp_path / "run", "--split", "one.csv")
    assert done.code == 2
    assert "1 split for 2 datasets" in done.message


def test_it_is_no_predictor_in_python_either(run: Path) -> None:
    with pytest.raises(ModelError, match="pre-trained on images alone"):
        medseg_package.load(run)
