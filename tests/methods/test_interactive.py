from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from commands import medseg
from data.builders import squares
from medseg.data.case import IGNORE
from medseg.data.prompts import Prompts
from medseg.data.simulate_prompts import next_click
from medseg.engine.checkpoint import load_checkpoint
from medseg.engine.loop import TrainingLoop
from medseg.engine.run import make_recipe
from medseg.errors import RecipeError
from medseg.losses.focal import focal_loss
from medseg.methods.interactive import Interactive
from medseg.methods.method import Batch
from medseg.models import create_model
from medseg.nn.prompts import PromptTensors, click_maps
from medseg.recipe import Recipe

SMALL = {"system": "scribbleprompt", "network": {"widths": (6, 6)}}
OPTIONS = (
    "--system", "scribbleprompt", "--image-size", "16", "--batch-size", "4", "--device", "cpu",
    "--set", "network.widths=[6,6]", "--set", "method_options.rounds=2",
)  # fmt: skip


class Recorder(nn.Module):
    """Answers a constant, and remembers what it was asked."""

    prompts = ("point", "box", "scribble", "mask")

    def __init__(self) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(-1.0))
        self.asked: list[PromptTensors] = []

    def forward(self, image: Tensor, prompts: PromptTensors) -> Tensor:
        self.asked.append(prompts)
        return self.logit * torch.ones_like(image[:, :1])


def batch_of(count: int = 4, *, classes: int = 2, epoch: int = 0) -> Batch:
    random = np.random.default_rng(7)
    mask = torch.zeros(count, 24, 24, dtype=torch.uint8)
    for each in mask:
        for k in range(1, classes):
            y, x = random.integers(0, 12, 2)
            each[y : y + 9, x : x + 9] = k
    image = mask[:, None].float() + 0.1 * torch.randn(
        count, 1, 24, 24, generator=torch.Generator().manual_seed(0)
    )
    return {
        "image": image,
        "mask": mask,
        "case_id": [str(i) for i in range(count)],
        "key": [(0, epoch, i) for i in range(count)],
    }


def method_of(network: nn.Module | None = None, **options: Any) -> Interactive:
    torch.manual_seed(0)
    network = network or create_model("scribbleprompt", in_channels=1, widths=(6, 6))
    return Interactive(network, Recipe(**SMALL), **options)


def part_of(batch: Batch, part: slice) -> Batch:
    return {name: value[part] for name, value in batch.items()}  # type: ignore[index,return-value]


def test_its_loss_falls() -> None:
    method = method_of(rounds=2, superpixels=0.0)
    optimizer = torch.optim.Adam(method.parameters(), 1e-2)
    history = []
    for epoch in range(16):
        loss = torch.stack(list(method(batch_of(epoch=epoch)).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert np.mean(history[-4:]) < 0.9 * np.mean(history[:4])


def in_noise(count: int, epoch: int) -> Batch:
    """Two squares in strong noise, one above the other, of which either may be meant."""
    random = np.random.default_rng([7, epoch])
    mask = torch.zeros(count, 24, 24, dtype=torch.uint8)
    for each in mask:
        for k, top in ((1, 0), (2, 12)):
            y, x = top + random.integers(0, 4), random.integers(0, 15)
            each[y : y + 9, x : x + 9] = k
    noise = torch.randn(count, 1, 24, 24, generator=torch.Generator().manual_seed(epoch))
    return {
        "image": (mask[:, None] > 0) + 0.8 * noise,
        "mask": mask,
        "case_id": [str(i) for i in range(count)],
        "key": [(0, epoch, i) for i in range(count)],
    }


@pytest.mark.slow
def test_each_click_on_what_is_wrong_brings_the_answer_nearer() -> None:
    method = method_of(rounds=5, superpixels=0.0, kinds=("point",))
    optimizer = torch.optim.AdamW(method.parameters(), 5e-3)
    for epoch in range(150):
        optimizer.zero_grad()
        torch.stack(list(method(in_noise(8, epoch)).values())).sum().backward()
        optimizer.step()
    unseen = in_noise(16, 1000)
    meant = (unseen["mask"] == 1).numpy()
    prompts = [Prompts()] * 16
    answer, scores = torch.zeros(16, 1, 24, 24), []
    for _ in range(6):
        clicks = [
            next_click(mask, wrong)
            for mask, wrong in zip(meant, (answer[:, 0] > 0).numpy(), strict=True)
        ]
        prompts = [
            before + Prompts(points=(click,) if click else ())
            for before, click in zip(prompts, clicks, strict=True)
        ]
        with torch.no_grad():
            pointed = PromptTensors.of(prompts, unseen["image"], answer)
            answer = method.network(unseen["image"], pointed)
        found = (answer[:, 0] > 0).numpy()
        both, total = (found & meant).sum((1, 2)), found.sum((1, 2)) + meant.sum((1, 2))
        scores.append(float(np.mean(2 * both / total)))
    assert scores[2] > scores[0] + 0.05
    assert scores[5] > scores[2]


def test_losses_depend_on_the_key_alone_and_not_on_the_batch() -> None:
    """So that any number of processes trains alike."""
    method = method_of(rounds=3)
    batch = batch_of()
    whole = method(batch)
    halves = [method(part_of(batch, part)) for part in (slice(0, 2), slice(2, 4))]
    for name, loss in whole.items():
        torch.testing.assert_close(loss, (halves[0][name] + halves[1][name]) / 2)
    other = method(batch_of(epoch=1))
    assert not torch.equal(other["dice"], whole["dice"])


def test_every_round_adds_to_the_prompts_and_sees_the_last_answer_without_its_gradient() -> None:
    network = Recorder()
    losses = method_of(network, rounds=4, superpixels=0.0)(batch_of())
    first, *others = network.asked
    assert not first.mask.any()
    drawn = []
    for asked in network.asked:
        clicks = click_maps(asked.points, asked.labels, (24, 24))
        drawn.append((clicks + asked.scribbles).clamp(0, 1))
    for before, after in pairwise(drawn):
        assert (after >= before).all()
    assert drawn[-1].sum() > drawn[0].sum()
    for asked in others:
        assert (asked.mask == -1).all()
        assert not asked.mask.requires_grad
    torch.stack(list(losses.values())).sum().backward()
    assert network.logit.grad is not None


def test_corrections_of_an_answer_of_nothing_are_on_the_structure() -> None:
    network = Recorder()
    batch = batch_of()
    method_of(network, rounds=5, superpixels=0.0, kinds=("point",))(batch)
    before, after = network.asked[0], network.asked[-1]
    for mask, old, points, labels in zip(
        batch["mask"], before.labels, after.points, after.labels, strict=True
    ):
        made = int((old >= 0).sum())
        new = [(p, k) for p, k in zip(points[made:], labels[made:], strict=True) if k >= 0]
        assert new
        assert all(k == 1 and mask[p[1], p[0]] == 1 for p, k in new)


def test_all_answers_count_alike_and_without_focus_it_is_the_cross_entropy() -> None:
    network, batch = Recorder(), batch_of()
    losses = method_of(network, rounds=3, gamma=0.0, superpixels=0.0)(batch)
    logits = network.logit * torch.ones(4, 1, 24, 24)
    torch.testing.assert_close(losses["focal"], focal_loss(logits, batch["mask"], gamma=0.0))


def test_of_several_classes_one_is_the_structure_and_each_of_them_at_times() -> None:
    network = Recorder()
    method = method_of(network, rounds=1, superpixels=0.0, kinds=("point",))
    hit = set()
    for epoch in range(12):
        batch = batch_of(classes=3, epoch=epoch)
        method(batch)
        asked = network.asked[-1]
        for mask, points, labels in zip(batch["mask"], asked.points, asked.labels, strict=True):
            found = {int(mask[p[1], p[0]]) for p, k in zip(points, labels, strict=True) if k == 1}
            assert len(found) == 1
            hit |= found
    assert hit == {1, 2}


def test_nothing_is_pointed_at_where_nothing_is_known() -> None:
    network, batch = Recorder(), batch_of()
    batch["mask"][:, :12] = IGNORE
    method_of(network, rounds=3, superpixels=0.0)(batch)
    for asked in network.asked:
        clicks = click_maps(asked.points, asked.labels, (24, 24))
        assert not (clicks + asked.scribbles)[:, :, :12].any()


def test_a_superpixel_takes_the_structures_place_as_often_as_asked() -> None:
    batch = batch_of(1)
    masks = []
    for share in (0.0, 1.0):
        method = method_of(Recorder(), superpixels=share)
        masks.append(
            [
                method._target(
                    batch["image"][0, 0].numpy(), batch["mask"][0].numpy(), np.random.default_rng(n)
                )
                for n in range(6)
            ]
        )
    truth = batch["mask"][0].numpy()
    assert all((mask == truth).all() for mask in masks[0])
    assert len({mask.tobytes() for mask in masks[1]}) > 1
    assert all(set(np.unique(mask)) <= {0, 1} and mask.any() for mask in masks[1])


def test_as_released_boxes_begin_in_the_corner() -> None:
    for released in (False, True):
        network = Recorder()
        method_of(network, rounds=1, superpixels=0.0, kinds=("box",), as_released=released)(
            batch_of()
        )
        corners = network.asked[0].boxes[:, 0, :2]
        assert bool((corners == 0).all()) == released


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"rounds": 0}, "rounds=0"),
        ({"gamma": -1.0}, "gamma=-1"),
        ({"superpixels": 1.5}, "superpixels=1.5"),
        ({"kinds": ()}, r"kinds.*points, boxes, scribbles or an earlier mask"),
    ],
)
def test_a_bad_option_is_an_error_that_names_it(options: dict[str, Any], named: str) -> None:
    with pytest.raises((RecipeError, ValueError), match=named):
        method_of(**options)


def test_another_loss_is_an_error_that_names_it() -> None:
    network = create_model("scribbleprompt", in_channels=1, widths=(6, 6))
    with pytest.raises(RecipeError, match=r"loss\.lovasz.*does not use it"):
        Interactive(network, Recipe(**SMALL, loss={"lovasz": 1.0}))


def test_networks_and_methods_that_do_not_fit_are_refused_before_any_data_is_read() -> None:
    with pytest.raises(RecipeError, match="method=interactive"):
        make_recipe({"system": "scribbleprompt", "method": "supervised"}, [])
    with pytest.raises(RecipeError, match="unet takes no prompts"):
        make_recipe({"system": "unet", "method": "interactive"}, [])


def test_a_run_resumes_to_the_bits_of_one_that_was_never_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = squares(tmp_path / "data", 12, classes=3)
    taken, original = 0, TrainingLoop._step

    def step(self: TrainingLoop, batch: Batch) -> dict[str, float]:
        nonlocal taken
        taken += 1
        self.stop_asked = taken == 3
        return original(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_step", step)
        stopped = medseg("train", data, "-o", tmp_path / "stopped", "--epochs", 2, *OPTIONS)
        assert "--resume" in stopped.message
    assert medseg("train", data, "-o", tmp_path / "stopped", "--resume").code == 0
    assert medseg("train", data, "-o", tmp_path / "whole", "--epochs", 2, *OPTIONS).code == 0
    (ours, _), (theirs, _) = (
        load_checkpoint(tmp_path / name / "checkpoints" / "last.safetensors")
        for name in ("stopped", "whole")
    )
    for group, named in theirs.items():
        for name, value in named.items():
            assert torch.equal(ours[group][name], value), f"{group}/{name}"
