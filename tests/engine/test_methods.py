"""Trainings of every shape: unlabelled images, several optimizers, a method in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from data.builders import squares
from engine.test_train import TINY, assert_same_bits, tensors, without_times
from medseg.engine import loop as loop_module
from medseg.engine.loop import Interrupted
from medseg.engine.train import train
from medseg.errors import DataError, MedsegError, RecipeError

ADVERSARIAL = '''
import torch
from torch import nn
from medseg.methods.method import Method, adamw
from medseg.losses.region import cross_entropy


class Adversarial(Method):
    """A network, and a critic that tells its masks from drawn ones."""

    phases = ("main", "critic")

    def __init__(self, network, recipe, *, weight: float = 0.1):
        super().__init__(network, recipe)
        self.weight = weight
        self.critic = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 3))
        self.register_buffer("followed", torch.zeros(()))

    def training_step(self, batch):
        probability = self.network(batch["image"]).float().sigmoid()
        if self.phase == "main":
            logits = torch.logit(probability, eps=1e-6)
            return {
                "segmentation": cross_entropy(logits, batch["mask"]),
                "adversarial": -self.weight * self.critic(probability).mean(),
            }
        drawn = batch["mask"].unsqueeze(1).float()
        apart = self.critic(drawn).mean() - self.critic(probability.detach()).mean()
        return {"critic": (1 - apart).square()}

    def after_step(self):
        self.followed += 1

    def make_optimizers(self):
        settings = self.recipe.optimizer
        return {"main": adamw(self.network, settings), "critic": adamw(self.critic, settings)}
'''


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("data") / "squares", 16)


@pytest.fixture
def adversarial(tmp_path: Path) -> Path:
    (tmp_path / "adversarial.py").write_text(ADVERSARIAL)
    return tmp_path / "adversarial.py"


def few(data: Path, output: Path, *settings: str, **options: Any) -> Path:
    """A run with ``settings`` besides those of the tiny network."""
    given: dict[str, Any] = {"epochs": 2, "image_size": 16, "batch_size": 4, "quiet": True}
    settings = () if options.get("resume") else (*TINY, *settings)
    return train(
        data, output=output, device="cpu", settings=settings, **{**given, **options}
    ).folder


def interrupted_after(steps: int, monkeypatch: pytest.MonkeyPatch, go: Any) -> None:
    taken = 0
    original = loop_module.TrainingLoop._step

    def step(self: loop_module.TrainingLoop, batch: Any) -> dict[str, float]:
        nonlocal taken
        taken += 1
        self.stop_asked = taken == steps
        return original(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(loop_module.TrainingLoop, "_step", step)
        with pytest.raises(Interrupted):
            go()


BCP = ("method=bcp", "data.labelled=4", "method_options.pretraining=0.5")


def test_a_semi_supervised_run_resumes_to_the_same_bits(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = few(data, tmp_path / "whole", *BCP)
    stopped = tmp_path / "stopped"
    interrupted_after(3, monkeypatch, lambda: few(data, stopped, *BCP))
    few(data, stopped, resume=True)
    assert_same_bits(whole, stopped)
    assert without_times(whole) == without_times(stopped)
    cases = json.loads((whole / "data.json").read_text())["cases"]
    assert cases["train"] == 4
    assert cases["unlabelled"] == 16 - sum(cases[part] for part in ("train", "val", "test"))
    teacher = [name for name in tensors(whole) if name.startswith("method/teacher.")]
    assert teacher


def test_without_such_a_method_the_other_images_are_left_out(data: Path, tmp_path: Path) -> None:
    folder = few(data, tmp_path / "run", "data.labelled=4", epochs=1)
    assert json.loads((folder / "data.json").read_text())["cases"].keys() == {
        "train",
        "val",
        "test",
    }
    assert len(without_times(folder)) == 1


def test_every_phase_moves_its_own_weights_and_resumes_to_the_same_bits(
    data: Path, adversarial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = f"method={adversarial}"
    whole = few(data, tmp_path / "whole", method)
    stopped = tmp_path / "stopped"
    interrupted_after(3, monkeypatch, lambda: few(data, stopped, method))
    few(data, stopped, resume=True)
    assert_same_bits(whole, stopped)
    found = tensors(whole)
    assert any(name.startswith("optimizer.critic/") for name in found)
    losses = json.loads((whole / "metrics.jsonl").read_text().splitlines()[0])
    assert {"loss_segmentation", "loss_adversarial", "loss_critic"} <= losses.keys()
    steps = found["method/followed"]
    assert float(steps) == float(found["optimizer.critic/0.step"]) > 0


def test_a_phase_leaves_the_weights_of_others_alone(
    data: Path, adversarial: Path, tmp_path: Path
) -> None:
    text = adversarial.read_text().replace('phases = ("main", "critic")', 'phases = ("critic",)')
    adversarial.write_text(text)
    runs = [few(data, tmp_path / f"{n}", f"method={adversarial}", epochs=n) for n in (1, 2)]
    before, after = (tensors(folder) for folder in runs)
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    # Norms follow what they see, whoever moves.
    weights = {n for n in moved if n.startswith("method/network.") and after[n].ndim > 1}
    assert not weights
    assert {"method/critic.0.weight", "method/critic.2.weight"} <= moved


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("method=bpc", "method: 'bpc' is not allowed. Did you mean 'bcp'"),
        ("method_options.alpha=1", "method_options.alpha: supervised has no options"),
        ("method=none.py", "method none.py: there is no such file"),
    ],
)
def test_a_wrong_method_or_option_is_an_error(
    data: Path, tmp_path: Path, setting: str, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        few(data, tmp_path / "run", setting)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("pretrainin=0.5", "bcp has no such option. Did you mean 'pretraining'"),
        ("pretraining=much", "'much' is not allowed"),
        ("pretraining=2", "pretraining 2.0 is not within 0 and 1"),
    ],
)
def test_options_are_checked_against_the_methods_constructor(
    data: Path, tmp_path: Path, option: str, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        few(data, tmp_path / "run", "method=bcp", "data.labelled=4", f"method_options.{option}")


def test_a_file_without_a_method_is_an_error(data: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Mine: pass")
    with pytest.raises(RecipeError, match="it defines 0 method classes"):
        few(data, tmp_path / "run", f"method={tmp_path / 'mine.py'}")


def test_learning_from_unlabelled_images_needs_some(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="bcp learns from images without masks, and there"):
        few(data, tmp_path / "run", "method=bcp")


@pytest.mark.parametrize(
    ("batch", "message"),
    [(6, "bcp needs a multiple of 4. Use 4"), (12, "only 4 labelled training images .* at most 8")],
)
def test_a_batch_that_cannot_be_halved_is_an_error(
    data: Path, tmp_path: Path, batch: int, message: str
) -> None:
    with pytest.raises(MedsegError, match=message):
        few(data, tmp_path / "run", *BCP, batch_size=batch)
