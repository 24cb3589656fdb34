"""`medseg train --init`: a training that starts from another model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from commands import medseg as command
from commands import parts_of
from data.builders import squares
from medseg.engine import loop as loop_module
from medseg.engine.checkpoint import load_checkpoint
from medseg.engine.initial import load_origin
from medseg.engine.loop import Interrupted
from medseg.engine.train import train
from medseg.errors import DataError, ModelError, RecipeError
from medseg.inference.bundle import read_bundle, read_manifest, write_bundle
from medseg.report.card import card_of
from medseg.scoring import choose_cases


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other images than those of ``trained``: three classes."""
    return squares(tmp_path_factory.mktemp("data") / "organs", 12, classes=3, size=30)


@pytest.fixture(scope="module")
def origin(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of ``trained``, with somebody to name."""
    path = tmp_path_factory.mktemp("origin") / "start.medseg"
    bundle = read_bundle(trained / "model.medseg")
    told = {**bundle.manifest.data, "attribution": "Doe (2020)"}
    manifest = bundle.manifest.model_copy(update={"data": told, "licence": "CC-BY-4.0"})
    write_bundle(path, manifest, bundle.weights)
    return path


def run(data: Path, folder: Path, init: Path | str, **options: Any) -> Path:
    given: dict[str, Any] = {"epochs": 2, "image_size": 16, "batch_size": 2, "quiet": True}
    return train(data, output=folder, init=init, device="cpu", **{**given, **options}).folder


@pytest.fixture(scope="module")
def reference(data: Path, origin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run that starts from ``origin``."""
    return run(data, tmp_path_factory.mktemp("reference") / "run", origin)


def test_the_network_is_that_of_the_model_and_the_recipe_says_so(
    reference: Path, origin: Path
) -> None:
    recipe = yaml.safe_load((reference / "recipe.yaml").read_text())
    manifest = read_manifest(origin)
    assert (recipe["init"], recipe["init_sha256"]) == (str(origin), manifest.weights_sha256)
    assert recipe["network"] == manifest.network
    assert recipe["network"]["widths"] == [8, 8, 8]


def test_training_starts_from_the_weights(data: Path, origin: Path, tmp_path: Path) -> None:
    still = ("optimizer.learning_rate=1e-12", "optimizer.final_learning_rate=0")
    folder = run(data, tmp_path / "run", origin, settings=still, epochs=1)
    start, end = load_origin(str(origin)).weights, load_origin(str(folder)).weights
    kernels = [name for name, tensor in start.items() if tensor.ndim > 1]
    for name in kernels:
        if not name.startswith("head."):
            assert torch.allclose(start[name], end[name], atol=1e-6), name
    assert end["head.weight"].shape[0] == 3


def test_what_was_carried_over_is_printed(data: Path, origin: Path, tmp_path: Path) -> None:
    ran = command(
        "train", data, "--init", origin, "-o", tmp_path / "run", "--epochs", 1,
        "--image-size", 16, "--batch-size", 2, "--device", "cpu",
    )  # fmt: skip
    assert ran.code == 0
    assert f"init     {origin}: " in ran.err
    assert "numbers carried over; new: head.weight, head.bias" in ran.err


@pytest.mark.parametrize("stop_after", [1, 6])
def test_a_stopped_run_resumes_to_the_same_bits_without_the_model(
    data: Path,
    origin: Path,
    reference: Path,
    tmp_path: Path,
    stop_after: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = 0
    original = loop_module.TrainingLoop._step

    def step(self: loop_module.TrainingLoop, batch: Any) -> dict[str, float]:
        nonlocal steps
        steps += 1
        self.stop_asked = steps == stop_after
        return original(self, batch)

    borrowed = Path(shutil.copyfile(origin, tmp_path / "start.medseg"))
    with monkeypatch.context() as patch:
        patch.setattr(loop_module.TrainingLoop, "_step", step)
        with pytest.raises(Interrupted):
            run(data, tmp_path / "run", borrowed)
    borrowed.unlink()
    train(data, output=tmp_path / "run", resume=True, device="cpu", quiet=True)
    ours, theirs = (
        load_checkpoint(folder / "checkpoints" / "last.safetensors")[0]
        for folder in (reference, tmp_path / "run")
    )
    assert ours.keys() == theirs.keys()
    for group, named in ours.items():
        for name, tensor in named.items():
            assert torch.equal(tensor, theirs[group][name]), name
    seen = [read_manifest(f / "model.medseg").data["seen"] for f in (reference, tmp_path / "run")]
    assert seen[0] == seen[1]


def test_a_run_killed_before_its_first_checkpoint_needs_the_same_model_again(
    data: Path, origin: Path, trained: Path, tmp_path: Path
) -> None:
    borrowed = Path(shutil.copyfile(origin, tmp_path / "start.medseg"))
    folder = run(data, tmp_path / "run", borrowed, epochs=1)
    finished = load_origin(str(folder)).weights
    shutil.rmtree(folder / "checkpoints")
    (folder / "metrics.jsonl").unlink()
    shutil.copyfile(folder / "model.medseg", borrowed)
    with pytest.raises(ModelError, match="not those that the run began from"):
        train(data, output=folder, resume=True, device="cpu", quiet=True)
    shutil.copyfile(origin, borrowed)
    train(data, output=folder, resume=True, device="cpu", quiet=True)
    again = load_origin(str(folder)).weights
    assert all(torch.equal(tensor, again[name]) for name, tensor in finished.items())


def test_the_model_remembers_what_its_start_has_seen_and_whom_to_name(
    reference: Path, origin: Path, trained: Path, photos: Path
) -> None:
    manifest, start = read_manifest(reference / "model.medseg"), read_manifest(origin)
    assert set(start.data["seen"]) < set(manifest.data["seen"])
    assert manifest.data["init"] == {
        "model": str(origin),
        "weights_sha256": start.weights_sha256,
        "licence": "CC-BY-4.0",
        "attribution": "Doe (2020)",
    }
    assert "Attribution of that model: Doe (2020)" in card_of(reference)
    learnt = parts_of(trained)
    scored = choose_cases(photos, reference / "model.medseg", "auto")
    assert scored.seen == len(learnt["train"]) + len(learnt["val"])


def test_a_start_of_a_start_is_named_too(reference: Path) -> None:
    inherited = load_origin(str(reference)).inherited
    assert inherited["attribution"] == "Doe (2020)"
    assert set(inherited["seen"]) == set(read_manifest(reference / "model.medseg").data["seen"])


def test_a_model_that_knows_the_test_part_is_refused(
    trained: Path, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"trained or chosen on \d+ images? of the test part"):
        run(photos, tmp_path / "run", trained, seed=5)
    assert not (tmp_path / "run" / "recipe.yaml").exists()
    folder = run(photos, tmp_path / "leaky", trained, seed=5, epochs=1, allow_leak=True)
    leak = read_manifest(folder / "model.medseg").data["leak"]
    known = len(parts_of(folder)["test"] & (parts_of(trained)["train"] | parts_of(trained)["val"]))
    assert leak.startswith(f"Leak: {known} test image")
    assert "the start of training" in leak
    assert json.loads((folder / "data.json").read_text())["leak"] == leak


def test_the_same_split_may_be_trained_further(trained: Path, photos: Path, tmp_path: Path) -> None:
    folder = run(photos, tmp_path / "run", trained, epochs=1)
    assert read_manifest(folder / "model.medseg").data["leak"] == ""


def test_another_system_that_does_not_fit_is_refused(
    data: Path, origin: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="do not fit unet-narrow"):
        run(data, tmp_path / "run", origin, system="unet-narrow")


def test_a_resumed_run_cannot_get_another_start(reference: Path, data: Path, trained: Path) -> None:
    with pytest.raises(RecipeError, match="begun with another init"):
        train(data, output=reference, init=trained, resume=True, device="cpu", quiet=True)


def test_a_start_that_is_not_there_is_an_error_before_any_data_is_read(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere.medseg: there is no such file"):
        run(tmp_path / "no data", tmp_path / "run", "nowhere.medseg")
