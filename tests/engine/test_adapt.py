"""Refining a model by few weights: what is trained, and that what ships is a plain network."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from commands import medseg as command
from data.builders import squares
from inference.builders import BINARY, bundle
from medseg.engine import loop as loop_module
from medseg.engine.adapt import adapt, adaptation_of
from medseg.engine.checkpoint import load_checkpoint
from medseg.engine.initial import load_origin
from medseg.engine.loop import Interrupted
from medseg.engine.train import train
from medseg.errors import RecipeError
from medseg.models import create_model
from medseg.recipe import AdaptSettings, apply_settings, parse_recipe

SIX = list(itertools.product(("plain", "convlora", "cp"), (False, True)))


def unet(**settings: Any) -> nn.Module:
    """A small U-Net, adapted."""
    torch.manual_seed(0)
    network = create_model("unet", widths=(2, 4))
    adapt(network, AdaptSettings.model_validate(settings))
    return network


def trained_names(network: nn.Module) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def without_update(network: nn.Module) -> set[str]:
    """Names of what is trained and is no part of an update."""
    return {name for name in trained_names(network) if "parametrizations" not in name}


def test_every_convolution_gets_an_update_and_its_weight_stays() -> None:
    network = unet(lora={"rank": 2})
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert adaptation_of(network).layers == len(convolutions) == 8
    network(torch.rand(2, 3, 8, 8)).sum().backward()
    frozen = [p for name, p in network.named_parameters() if name.endswith("weight.original")]
    assert len(frozen) == 8
    assert all(parameter.grad is None for parameter in frozen)


def test_the_share_is_of_the_network_that_ships() -> None:
    found = adaptation_of(unet(lora={"rank": 1}, norms=False, biases=False))
    plain = create_model("unet", widths=(2, 4))
    assert found.total == sum(parameter.numel() for parameter in plain.parameters())
    weights = [m.weight for m in plain.modules() if isinstance(m, nn.Conv2d)]
    up = plain.get_submodule("up.0").weight
    expected = sum(len(w) + w[0].numel() for w in weights) + up.shape[1] + up[:, 0].numel()
    assert found.trained == expected
    assert f"{found.trained:,} trained weights" in str(found)


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("norms", [True, False])
def test_norms_and_biases_are_trained_when_asked(norms: bool, biases: bool) -> None:
    network = unet(lora={"rank": 1}, norms=norms, biases=biases)
    names = without_update(network)
    assert ("encoder.0.1.weight" in names) == norms
    assert ("encoder.0.0.bias" in names) == biases
    before = network.get_buffer("encoder.0.1.running_mean").clone()
    network.train()(torch.rand(2, 3, 8, 8))
    changed = not torch.equal(network.get_buffer("encoder.0.1.running_mean"), before)
    assert changed == norms


def test_still_norms_answer_in_training_as_in_use() -> None:
    network, image = unet(lora={"rank": 1}, norms=False), torch.rand(2, 3, 8, 8)
    assert torch.equal(network.train()(image), network.eval()(image))


def test_an_expression_says_which_layers() -> None:
    network = unet(lora={"rank": 1, "layers": "^decoder"}, norms=False)
    names = trained_names(network)
    assert names
    assert all(name.startswith("decoder") for name in names)


def test_layers_named_whole_are_trained_with_all_that_they_hold() -> None:
    network = unet(whole="^decoder$", norms=False)
    inside = {name for name, _ in network.named_parameters() if name.startswith("decoder.")}
    assert trained_names(network) == inside


def test_what_is_new_is_trained_as_a_whole() -> None:
    network = unet(lora={"rank": 1}, norms=False, biases=False, new=["head.weight", "head.bias"])
    assert without_update(network) == {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    ("settings", "key"),
    [({"whole": "^tail"}, "adapt.whole"), ({"lora": {"rank": 1, "layers": "x"}}, "adapt.lora")],
)
def test_an_expression_that_fits_nothing_is_refused(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(RecipeError, match=f"{key}.*encoder, pool, up, decoder, head"):
        unet(**settings)


def test_a_weight_of_two_layers_gets_no_update() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    network[1].weight = network[0].weight
    adapt(network, AdaptSettings.model_validate({"lora": {"rank": 1}}))
    assert adaptation_of(network).layers == 1


def test_nested_keys_are_set_one_by_one() -> None:
    values = apply_settings({}, ["adapt.lora.rank=4", "adapt.lora.kind=cp", "adapt.norms=false"])
    assert values == {"adapt": {"lora": {"rank": 4, "kind": "cp"}, "norms": False}}
    assert apply_settings(values, ["adapt.lora.rank=8"])["adapt"]["lora"]["kind"] == "cp"
    assert values["adapt"]["lora"]["rank"] == 4


@pytest.mark.parametrize("setting", ["adapt.norms=false", "adapt.lora.kind=cp", "adapt.whole='('"])
def test_settings_that_would_do_nothing_are_refused(setting: str) -> None:
    with pytest.raises(RecipeError, match="adapt"):
        parse_recipe(apply_settings({}, [setting]))


def shapes(count: int, *, crescents: bool) -> tuple[Tensor, Tensor]:
    """Noisy bright discs of 16 pixels' images, and what is asked of them."""
    centres = torch.rand(count, 2, 1, 1) * 6 + 5
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")

    def disc(shift: float) -> Tensor:
        away = (rows - centres[:, 0]) ** 2 + (columns - centres[:, 1] - shift) ** 2
        return (away < 16).float()

    image = disc(0) + 0.1 * torch.randn(count, 16, 16)
    wanted = disc(0) * (1 - disc(2)) if crescents else disc(0)
    return image[:, None], wanted[:, None]


def refine(network: nn.Module, image: Tensor, mask: Tensor, steps: int) -> None:
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(network(image), mask).backward()
        optimizer.step()


@pytest.mark.parametrize(("kind", "dora"), SIX)
def test_eight_crescents_teach_a_network_of_discs_nearly_what_they_teach_all_its_weights(
    kind: str, dora: bool
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.Conv2d(6, 6, 5, padding=2), nn.ReLU(),
        nn.Conv2d(6, 1, 1),
    )  # fmt: skip
    refine(network, *shapes(16, crescents=False), steps=40)
    image, mask = shapes(32, crescents=True)
    eight, whole = shapes(8, crescents=True), copy.deepcopy(network)
    refine(whole, *eight, steps=40)
    with torch.no_grad():
        frozen, full = (
            F.binary_cross_entropy_with_logits(each(image), mask).item()
            for each in (network, whole)
        )
    adapt(network, AdaptSettings.model_validate({"lora": {"rank": 2, "kind": kind, "dora": dora}}))
    refine(network, *eight, steps=40)
    with torch.no_grad():
        adapted = F.binary_cross_entropy_with_logits(network(image), mask).item()
    assert frozen - adapted > 0.75 * (frozen - full)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, so that the head of a binary model begins anew."""
    return squares(tmp_path_factory.mktemp("data") / "organs", 10, classes=3, size=20)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle(tmp_path_factory.mktemp("origin") / "nucleus.medseg", BINARY)


def run(data: Path, folder: Path, init: Path) -> Path:
    settings = ["adapt.lora.rank=2", "adapt.lora.dora=true", "adapt.norms=false"]
    return train(
        data, output=folder, init=init, epochs=2, image_size=16, batch_size=2, device="cpu",
        quiet=True, settings=[*settings, "predict.golden=0"],
    ).folder  # fmt: skip


@pytest.fixture(scope="module")
def reference(data: Path, origin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(data, tmp_path_factory.mktemp("reference") / "run", origin)


def test_what_ships_is_a_plain_network(reference: Path, origin: Path) -> None:
    start, end = load_origin(str(origin)).weights, load_origin(str(reference)).weights
    assert end.keys() == start.keys()
    moved = {name for name in start if end[name].shape == start[name].shape
             and not torch.equal(end[name], start[name])}  # fmt: skip
    assert any(name.endswith("weight") for name in moved)
    assert not any("running" in name for name in moved)


def test_the_recipe_says_what_was_new(reference: Path) -> None:
    recipe = yaml.safe_load((reference / "recipe.yaml").read_text())
    assert recipe["adapt"]["new"] == ["head.weight", "head.bias"]


def test_a_run_that_is_stopped_ends_with_the_same_bits_without_its_start(
    data: Path, origin: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    borrowed = tmp_path / "start.medseg"
    borrowed.write_bytes(origin.read_bytes())
    original, steps = loop_module.TrainingLoop._step, 0

    def step(self: Any, batch: Any) -> Any:
        nonlocal steps
        steps += 1
        self.stop_asked = steps == 3
        return original(self, batch)

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
    for group, named in ours.items():
        for name, tensor in named.items():
            assert torch.equal(tensor, theirs[group][name]), name


def test_without_a_model_to_adapt_there_is_an_error_that_says_so(data: Path) -> None:
    result = command("train", data, "--set", "adapt.lora.rank=4")
    assert result.code == 2
    assert "there is no model to adapt" in result.err
    assert "--init" in result.err
