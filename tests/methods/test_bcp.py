from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.data.case import IGNORE
from medseg.losses.masked import two_logits
from medseg.methods.bcp import BCP, mix_losses
from medseg.methods.method import Batch, Method
from medseg.methods.mixing import outside_box
from medseg.methods.supervised import Supervised
from medseg.models import create_model
from medseg.recipe import parse_recipe

RECIPE = parse_recipe({})


def waves(*shape: int) -> Tensor:
    steps = torch.arange(math.prod(shape), dtype=torch.float64)
    return (3 * torch.sin(0.7 * steps + 1)).reshape(shape).float()


def labels(factor: int, modulus: int, classes: int, *shape: int) -> Tensor:
    numbers = torch.arange(math.prod(shape)) * factor % modulus % classes
    return numbers.reshape(shape).to(torch.uint8)


def make_batch(size: int = 12) -> Batch:
    torch.manual_seed(0)
    mask = torch.randint(0, 2, (8, size, size)).to(torch.uint8)
    mask[4:] = IGNORE
    return {
        "image": torch.randn(8, 3, size, size),
        "mask": mask,
        "case_id": tuple(map(str, range(8))),
        "labelled": torch.arange(8) < 4,
    }


class Recording(nn.Conv2d):
    """Remembers what it is given."""

    def __init__(self) -> None:
        super().__init__(3, 1, 1)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return super().forward(x)


def make_method(**options: float) -> tuple[BCP, Recording, Recording]:
    network = Recording()
    method = BCP(network, RECIPE, **options)  # type: ignore[arg-type]
    method.steps = 8
    assert isinstance(method.teacher, Recording)
    return method, network, method.teacher


# Computed with mix_loss of github.com/DeepMed-Lab-ECNU/BCP, code/ACDC_BCP_train.py.
@pytest.mark.parametrize(
    ("weights", "cross_entropy", "dice"),
    [
        ({"of_piece": 0.5}, 1.107006311416626, 0.4584827423095703),
        ({"of_ground": 0.5}, 1.1115355491638184, 0.459225594997406),
    ],
)
def test_the_losses_of_a_mixed_image_are_the_official_ones(
    weights: dict[str, float], cross_entropy: float, dice: float
) -> None:
    outside = torch.ones(12, 9)
    outside[2:10, 1:7] = 0
    ground, piece = labels(7, 11, 4, 3, 12, 9), labels(5, 13, 4, 3, 12, 9)
    found = mix_losses(waves(3, 4, 12, 9), ground, piece, outside, **weights)
    assert float(found["cross_entropy"]) == pytest.approx(cross_entropy, rel=1e-6)
    assert float(found["dice"]) == pytest.approx(dice, rel=1e-6)


# Likewise, code/utils/BCP_utils.py.
@pytest.mark.parametrize(
    ("weights", "total"),
    [({"of_piece": 0.5}, 1.8363162279129028), ({"of_ground": 0.5}, 1.8687372207641602)],
)
def test_the_losses_of_a_mixed_volume_are_the_official_ones(
    weights: dict[str, float], total: float
) -> None:
    outside = torch.ones(6, 7, 8)
    outside[1:5, 2:6, 3:8] = 0
    ground, piece = labels(7, 11, 2, 2, 6, 7, 8), labels(5, 13, 2, 2, 6, 7, 8)
    found = mix_losses(waves(2, 2, 6, 7, 8), ground, piece, outside, **weights)
    assert float(found["cross_entropy"] + found["dice"]) == pytest.approx(total, rel=1e-6)


def test_at_first_only_labelled_images_are_mixed_and_the_teacher_rests() -> None:
    method, network, teacher = make_method()
    batch = make_batch()
    method.training_step(batch)
    (mixed,) = network.seen
    pixels = {tuple(pixel) for pixel in mixed[0].flatten(1).T.tolist()}
    known = {tuple(pixel) for pixel in batch["image"][:4].movedim(1, -1).reshape(-1, 3).tolist()}
    assert pixels <= known
    assert mixed.shape[0] == 2
    assert not teacher.seen


def test_then_both_directions_are_mixed_and_the_teacher_sees_unlabelled_images() -> None:
    method, network, teacher = make_method()
    method.step = 2
    batch = make_batch()
    method.training_step(batch)
    assert torch.equal(torch.cat(teacher.seen), batch["image"][4:])
    inward, outward = network.seen
    a, b, c, d = batch["image"].chunk(4)
    box = inward == a
    assert float(box.float().mean()) == pytest.approx((8 / 12) ** 2)
    assert torch.equal(inward, torch.where(box, a, c))
    assert torch.equal(outward, torch.where(box, d, b))


def test_masks_of_unlabelled_images_have_no_influence() -> None:
    method, _, _ = make_method(pretraining=0)
    batch = make_batch()
    torch.manual_seed(1)
    before = method.training_step(batch)
    batch["mask"][4:] = 1
    torch.manual_seed(1)
    after = method.training_step(batch)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_teacher_starts_from_the_pretrained_student_and_then_follows() -> None:
    method, network, teacher = make_method(decay=0.75)
    start = teacher.weight.clone()
    with torch.no_grad():
        network.weight.add_(1)
        method.step = 0
        method.after_step()
        assert torch.equal(teacher.weight, start)
        method.step = 1
        method.after_step()
        assert torch.equal(teacher.weight, network.weight)
        network.weight.add_(4)
        method.step = 2
        method.after_step()
    assert torch.allclose(teacher.weight, network.weight - 3)


def test_the_ramp_weighs_what_the_teacher_says() -> None:
    losses = []
    for ramp in (0.0, 1.0):
        method, _, _ = make_method(pretraining=0, ramp_up=ramp)
        method.load_state_dict({k: torch.zeros_like(v) for k, v in method.state_dict().items()})
        torch.manual_seed(1)
        losses.append(float(method.training_step(make_batch())["cross_entropy"].detach()))
    # Without weights, all cross-entropies are log 2.
    assert losses[0] == pytest.approx(math.log(2) * (1 + 0.5))
    assert losses[1] == pytest.approx(math.log(2) * (1 + 0.5 * math.exp(-5)))


def test_only_the_student_is_optimised() -> None:
    method, network, _ = make_method()
    optimizer = method.make_optimizer()
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in network.parameters()}


def test_stochastic_gradient_descent_keeps_its_rate() -> None:
    method = BCP(nn.Conv2d(3, 1, 1), RECIPE, sgd=True)
    assert isinstance(method.make_optimizer(), torch.optim.SGD)
    assert {method.learning_rate(step, 9) for step in range(9)} == {1e-3}


@pytest.mark.parametrize(
    "options", [{"box": 1.0}, {"pretraining": 1.5}, {"decay": -0.1}, {"pseudo_weight": -1.0}]
)
def test_values_out_of_range_are_errors(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        make_method(**options)


@given(seed=st.integers(0, 1000), classes=st.sampled_from([1, 3]))
@settings(max_examples=10, deadline=None)
def test_of_an_image_mixed_with_itself_the_cross_entropy_is_the_mean_inside_and_outside(
    seed: int, classes: int
) -> None:
    torch.manual_seed(seed)
    logits = torch.randn(2, classes, 9, 7)
    mask = torch.randint(0, max(2, classes), (2, 9, 7)).byte()
    outside = outside_box([9, 7], 2 / 3, torch.device("cpu"))
    each = F.cross_entropy(two_logits(logits), mask.long(), reduction="none")
    parts = [each[:, outside == part].mean() for part in (0, 1)]
    found = mix_losses(logits, mask, mask, outside)["cross_entropy"]
    torch.testing.assert_close(2 * found, parts[0] + parts[1])


def blobs(count: int, key: int) -> tuple[Tensor, Tensor]:
    """Noisy images of 32 pixels, of which the brighter of two discs is meant."""
    random = torch.Generator().manual_seed(key)
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    image, mask = torch.zeros(count, 1, 32, 32), torch.zeros(count, 32, 32, dtype=torch.uint8)
    for index in range(count):
        for light in (0.5, 1.0):
            y, x = (torch.rand(2, generator=random) * 20 + 6).tolist()
            radius = float(torch.rand(1, generator=random)) * 3 + 3
            disc = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
            image[index, 0][disc] = light
            mask[index] = disc
    noise = torch.randn(image.shape, generator=random)
    bright = torch.rand(count, 1, 1, 1, generator=random)
    return image + bright + 0.3 * noise, mask


def learnt(kind: type[Method], seed: int, **options: Any) -> float:
    """Dice of 32 new images after 300 steps on two with masks and, perhaps, 30 without."""
    torch.manual_seed(seed)
    network = create_model("unet", in_channels=1, widths=(8, 16, 32))
    method = kind(network, RECIPE, **options)
    method.steps = 300
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    known, others, unseen = (blobs(n, 100 * seed + n) for n in (2, 30, 32))
    masks = torch.cat([known[1], known[1], torch.full((4, 32, 32), IGNORE).byte()])
    for method.step in range(300):
        torch.manual_seed(1000 * seed + method.step)
        drawn = torch.randint(0, 30, (4,))
        images, labelled = torch.cat([known[0], known[0], others[0][drawn]]), torch.arange(8) < 4
        if not kind.unlabelled:
            images, labelled = images[:4], labelled[:4]
        batch: Batch = {"image": images, "mask": masks[: len(images)],
                        "case_id": ("",) * len(images), "labelled": labelled}  # fmt: skip
        optimizer.zero_grad()
        torch.stack(list(method.training_step(batch).values())).sum().backward()
        optimizer.step()
        method.after_step()
    with torch.no_grad():
        found = network.eval()(unseen[0])[:, 0] > 0
    both = (found & (unseen[1] > 0)).sum((1, 2))
    return float((2 * both / (found.sum((1, 2)) + unseen[1].sum((1, 2)))).mean())


@pytest.mark.slow
def test_images_without_masks_help_where_there_are_two_with() -> None:
    alone, together = (
        sum(learnt(kind, seed) for seed in range(3)) / 3 for kind in (Supervised, BCP)
    )
    assert together > alone
