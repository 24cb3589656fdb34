"""Training end to end on a tiny network: bits, resume, stopping, refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import medseg
from data.builders import squares
from medseg.engine import loop as loop_module
from medseg.engine.checkpoint import load_checkpoint
from medseg.engine.loop import Interrupted
from medseg.engine.train import Run, train
from medseg.errors import DataError, MedsegError, RecipeError
from medseg.inference.bundle import read_manifest

TINY = ("network.widths=[8,8,8]", "network.depths=[1,1]", "network.kernel=3")


def run(data: Path, output: Path, **options: Any) -> Run:
    given: dict[str, Any] = {"epochs": 2, "image_size": 16, "batch_size": 2, "quiet": True}
    return train(data, output=output, settings=TINY, device="cpu", **{**given, **options})


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    groups, _ = load_checkpoint(folder / "checkpoints" / "last.safetensors")
    return {f"{group}/{name}": t for group, named in groups.items() for name, t in named.items()}


def assert_same_bits(a: Path, b: Path) -> None:
    ours, theirs = tensors(a), tensors(b)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
    assert (a / "model.medseg").read_bytes() == (b / "model.medseg").read_bytes()


def without_times(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    timed = ("seconds", "images_per_second")
    return [{k: v for k, v in json.loads(line).items() if k not in timed} for line in lines]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("data") / "squares")


@pytest.fixture(scope="module")
def reference(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    return run(data, tmp_path_factory.mktemp("reference") / "run").folder


def test_the_same_seed_gives_the_same_bits(data: Path, reference: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "again")
    assert_same_bits(reference, tmp_path / "again")
    assert without_times(reference) == without_times(tmp_path / "again")


def test_another_seed_gives_other_weights(data: Path, reference: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "other", seed=1)
    name = "method/network.head.weight"
    assert not torch.equal(tensors(reference)[name], tensors(tmp_path / "other")[name])


@pytest.mark.parametrize("stop_after", [1, 4, 5, 7])
def test_a_run_stopped_at_any_step_resumes_to_the_same_bits(
    data: Path, reference: Path, tmp_path: Path, stop_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = 0
    original = loop_module.TrainingLoop._step

    def step(self: loop_module.TrainingLoop, batch: Any) -> dict[str, float]:
        nonlocal taken
        taken += 1
        self.stop_asked = taken == stop_after
        return original(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(loop_module.TrainingLoop, "_step", step)
        with pytest.raises(Interrupted, match="--resume"):
            run(data, tmp_path / "run")
    assert not (tmp_path / "run" / "model.medseg").exists()
    run(data, tmp_path / "run", resume=True)
    assert_same_bits(reference, tmp_path / "run")
    assert without_times(reference) == without_times(tmp_path / "run")


def command(data: Path, output: Path, *extra: str) -> list[str]:
    settings = [part for setting in TINY for part in ("--set", setting)]
    return [
        sys.executable, "-m", "medseg", "train", str(data), "-o", str(output), "--epochs", "30",
        "--image-size", "16", "--batch-size", "2", "--device", "cpu", "--patience", "30",
        *settings, *extra,
    ]  # fmt: skip


def wait_for_epochs(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    metrics = folder / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not metrics.is_file() or len(metrics.read_text().splitlines()) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_run_killed_in_mid_epoch_resumes_to_the_bits_of_one_never_killed(
    data: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command(data, tmp_path / "killed"), stderr=subprocess.PIPE, text=True, env=environment
    )
    wait_for_epochs(tmp_path / "killed", 3, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model.medseg").exists()
    for folder, extra in (("killed", ["--resume"]), ("whole", [])):
        subprocess.run(
            command(data, tmp_path / folder, *extra), check=True, env=environment,
            capture_output=True,
        )  # fmt: skip
    assert_same_bits(tmp_path / "killed", tmp_path / "whole")
    assert without_times(tmp_path / "killed") == without_times(tmp_path / "whole")


def test_sigint_saves_and_says_how_to_resume(data: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(data, tmp_path / "run"), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    wait_for_epochs(tmp_path / "run", 1, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert f"medseg train {data} -o {tmp_path / 'run'} --resume" in errors.replace("\n", " ")
    _, state = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.safetensors")
    assert state["epoch"] >= 1


def test_two_processes_train_to_the_weights_of_one_with_the_doubled_batch(
    data: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    one = command(data, tmp_path / "one", "--epochs", "2", "--batch-size", "4")
    two = command(data, tmp_path / "two", "--epochs", "2", "--batch-size", "4")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone",
                "--nproc_per_node", "2", *two[1:]]  # fmt: skip
    subprocess.run(one, check=True, env=environment, capture_output=True)
    subprocess.run(launcher, check=True, env=environment, capture_output=True, timeout=240)
    before = run(data, tmp_path / "start", epochs=1, batch_size=4).folder
    ours, theirs, start = (tensors(p) for p in (tmp_path / "one", tmp_path / "two", before))
    weights = [n for n in ours if n.startswith("method/") and ours[n].is_floating_point()]
    apart = sum(float((ours[n] - theirs[n]).square().sum()) for n in weights) ** 0.5
    moved = sum(float((ours[n] - start[n]).square().sum()) for n in weights) ** 0.5
    assert apart < 1e-3 * moved
    losses = [[row["loss"] for row in without_times(tmp_path / f)] for f in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_training_learns_the_squares(data: Path, tmp_path: Path) -> None:
    result = run(data, tmp_path / "run", epochs=25, batch_size=4)
    assert result.val_dice > 0.8


def test_training_learns_several_classes(tmp_path: Path) -> None:
    data = squares(tmp_path / "data", classes=4)
    result = run(data, tmp_path / "run", epochs=2)
    facts = json.loads((result.folder / "data.json").read_text())
    assert [label["value"] for label in facts["labels"]] == [0, 1, 2, 3]


def test_the_test_part_has_no_influence_on_the_weights(reference: Path, tmp_path: Path) -> None:
    split = dict(
        line.split(",")[:2] for line in (reference / "split.csv").read_text().splitlines()[1:]
    )
    runs = []
    for name in ("clean", "defaced"):
        data = squares(tmp_path / name / "squares")
        for part in ("train", "val", "test"):
            cases = [case for case, where in split.items() if where == part]
            (data / f"{part}.txt").write_text("\n".join(cases))
            if name == "defaced" and part == "test":
                for case in cases:
                    Image.new("RGB", (24, 24), "red").save(data / "images" / f"{case}.png")
        runs.append(run(data, tmp_path / name / "run").folder)
    assert any(where == "test" for where in split.values())
    clean, defaced = map(tensors, runs)
    assert all(torch.equal(clean[name], defaced[name]) for name in clean)


def test_training_stops_when_validation_stops_improving(data: Path, tmp_path: Path) -> None:
    result = run(data, tmp_path / "run", epochs=50, patience=2, batch_size=8)
    assert result.epochs < 50
    best = max(range(result.epochs), key=lambda e: without_times(result.folder)[e]["val_dice"])
    assert result.epochs == best + 1 + 2


def test_auto_values_are_resolved_in_the_stored_recipe(data: Path, tmp_path: Path) -> None:
    result = train(
        data, output=tmp_path / "run", image_size=16, settings=[*TINY, "train.epochs=1"],
        device="cpu", quiet=True,
    )  # fmt: skip
    text = (result.folder / "recipe.yaml").read_text()
    # What volumes and low-rank updates alone are trained with has no meaning here.
    kept = ("alpha", "snap_masks", "spacing", "patch", "patches_per_volume", "intensity", "flip")
    left = [line.strip() for line in text.splitlines() if "auto" in line]
    assert [line for line in left if line.partition(":")[0] not in kept] == []
    assert "expansion: 6" in text


def test_resuming_a_finished_run_changes_nothing(data: Path, tmp_path: Path) -> None:
    first = run(data, tmp_path / "run")
    before = first.bundle.read_bytes()
    again = run(data, tmp_path / "run", resume=True)
    assert again.bundle.read_bytes() == before
    assert again.val_dice == first.val_dice


def test_a_folder_in_use_is_refused_without_resume(data: Path, reference: Path) -> None:
    with pytest.raises(MedsegError, match=r"not empty.*--resume"):
        run(data, reference)


def test_resuming_with_another_option_is_refused_by_name(data: Path, reference: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.image_size"):
        run(data, reference, resume=True, image_size=32)


def test_resuming_on_changed_data_is_refused(tmp_path: Path) -> None:
    data = squares(tmp_path / "data")
    folder = run(data, tmp_path / "run").folder
    for image in (data / "images").iterdir():
        Image.new("RGB", (24, 24), (int(image.stem), 0, 0)).save(image)
    with pytest.raises(DataError, match=r"data has changed .* 12 changed \(000, "):
        run(data, folder, resume=True)


def test_resuming_nothing_says_so(data: Path, tmp_path: Path) -> None:
    with pytest.raises(MedsegError, match="no run to continue"):
        run(data, tmp_path / "none", resume=True)


def test_an_unknown_setting_is_refused_before_any_data_is_read(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"Did you mean 'train\.epochs'"):
        train(tmp_path / "absent", output=tmp_path / "run", settings=["train.epoch=3"], quiet=True)
    with pytest.raises(RecipeError, match="Did you mean 'expansion'"):
        train(tmp_path / "absent", output=tmp_path / "r", settings=["network.expantion=3"])
    assert not (tmp_path / "run").exists()


def test_one_labelled_image_is_refused_with_the_number_needed(tmp_path: Path) -> None:
    data = squares(tmp_path / "data", count=1)
    with pytest.raises(DataError, match="At least 2"):
        run(data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_errors_in_the_data_stop_training_and_are_all_listed(tmp_path: Path) -> None:
    data = squares(tmp_path / "data")
    (data / "images" / "000.png").write_bytes(b"text")
    Image.new("L", (5, 5)).save(data / "masks" / "001.png")
    with pytest.raises(DataError, match="2 errors") as caught:
        run(data, tmp_path / "run")
    assert "000.png" in str(caught.value)
    assert "001" in str(caught.value)


def test_a_batch_larger_than_the_training_part_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="only 10 training images"):
        run(data, tmp_path / "run", batch_size=50)


def test_a_loss_that_is_not_finite_stops_training(data: Path, tmp_path: Path) -> None:
    with pytest.raises(MedsegError, match=r"not finite.*learning_rate"):
        train(
            data, output=tmp_path / "run", epochs=3, image_size=16, batch_size=2, device="cpu",
            settings=[*TINY, "optimizer.learning_rate=1e30", "network.norm=none"], quiet=True,
        )  # fmt: skip


def test_tensorboard_events_are_written_on_request(data: Path, tmp_path: Path) -> None:
    train(
        data, output=tmp_path / "run", epochs=1, image_size=16, batch_size=2, device="cpu",
        settings=[*TINY, "train.tensorboard=true"], quiet=True,
    )  # fmt: skip
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


def test_training_works_outside_the_main_thread(data: Path, tmp_path: Path) -> None:
    results: list[Run] = []
    thread = threading.Thread(target=lambda: results.append(run(data, tmp_path / "run")))
    thread.start()
    thread.join()
    assert results[0].epochs == 2


def test_resuming_with_another_system_is_refused(data: Path, reference: Path) -> None:
    with pytest.raises(RecipeError, match="another system"):
        run(data, reference, resume=True, system="unet-narrow")


def test_a_split_file_is_used_instead_of_a_drawn_split(
    data: Path, reference: Path, tmp_path: Path
) -> None:
    lines = (reference / "split.csv").read_text().splitlines()
    swapped = {"train": "train", "val": "test", "test": "val"}
    rows = [line.split(",", 2) for line in lines[1:]]
    mine = tmp_path / "mine.csv"
    mine.write_text("\n".join([lines[0], *(f"{c},{swapped[s]},{rest}" for c, s, rest in rows)]))
    again = run(data, tmp_path / "run", split=mine)
    stored = (again.folder / "split.csv").read_text().splitlines()[1:]
    assert {line.split(",")[0]: line.split(",")[1] for line in stored} == {
        case: swapped[part] for case, part, _ in rows
    }


def test_a_split_file_that_divides_equal_images_is_refused(tmp_path: Path) -> None:
    data = squares(tmp_path / "data", count=4)
    for kind in ("images", "masks"):
        (data / kind / "001.png").write_bytes((data / kind / "000.png").read_bytes())
    mine = tmp_path / "split.csv"
    mine.write_text("case,split,patient\n000,train,\n001,val,\n002,train,\n003,test,\n")
    with pytest.raises(DataError, match="000"):
        run(data, tmp_path / "run", split=mine)


def test_masks_of_listed_files_stay_in_their_folder_wherever_the_files_are(tmp_path: Path) -> None:
    data = squares(tmp_path / "elsewhere")
    (tmp_path / "lists").mkdir()
    manifest = tmp_path / "lists" / "manifest.csv"
    rows = []
    for i, image in enumerate(sorted((data / "images").iterdir())):
        mask = data / "masks" / image.name
        near = f"../elsewhere/images/{image.name},../elsewhere/masks/{image.name}"
        rows.append(f"{image},{mask}" if i % 2 else near)
    manifest.write_text("\n".join(["image,mask", *rows]))
    before = sorted(tmp_path.rglob("*.png"))
    folder = run(manifest, tmp_path / "run", epochs=1).folder
    medseg.evaluate(manifest, folder, masks=tmp_path / "out")
    added = set(tmp_path.rglob("*.png")) - set(before)
    assert added
    assert all(tmp_path / "out" in path.parents for path in added)


def test_values_snapped_in_training_are_snapped_in_scoring(tmp_path: Path) -> None:
    data = squares(tmp_path / "data")
    for path in (data / "masks").iterdir():
        mask = np.asarray(Image.open(path)).copy()
        mask[mask > 0] -= np.uint8(int(path.stem))
        mask[0, 0] = 0
        Image.fromarray(mask).save(path)
    (data / "labels.json").write_text('{"background": 0, "square": 255}')
    folder = train(
        data, output=tmp_path / "run", epochs=1, image_size=16, batch_size=2, device="cpu",
        settings=[*TINY, "data.snap_masks=always"], quiet=True,
    ).folder  # fmt: skip
    evaluation = medseg.evaluate(data, folder, part="all")
    assert not evaluation.failures()
    evaluation.save(str(tmp_path / "report.html"))


def test_the_model_says_what_it_was_made_from(reference: Path) -> None:
    manifest = read_manifest(reference / "model.medseg")
    network = medseg.load(reference, device="cpu").network
    assert manifest.parameters == sum(p.numel() for p in network.parameters()) > 1000
    assert manifest.data["cases"] == {"train": 10, "val": 1, "test": 1}
    assert len(manifest.data["seen"]) == 11
    assert manifest.scores["val_dice"] == max(row["val_dice"] for row in without_times(reference))
