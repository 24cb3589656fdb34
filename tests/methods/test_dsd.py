from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from medseg.errors import RecipeError
from medseg.losses.weighted import weighted_losses
from medseg.methods.dsd import DSD, DeepUp
from medseg.methods.method import Batch, Method
from medseg.methods.supervised import Supervised
from medseg.models import create_model
from medseg.nn.blocks import count_parameters
from medseg.recipe import parse_recipe

RECIPE = parse_recipe({"data": {"channels": 3}})


def make_method(classes: int = 1, **options: Any) -> DSD:
    torch.manual_seed(0)
    return DSD(create_model("unet", num_classes=classes, widths=(4, 6, 8)), RECIPE, **options)


def make_batch(classes: int = 2, size: int = 16) -> Batch:
    torch.manual_seed(1)
    return {
        "image": torch.randn(2, 3, size, size),
        "mask": torch.randint(0, classes, (2, size, size)).to(torch.uint8),
        "case_id": ("a", "b"),
    }


@pytest.mark.parametrize(
    ("channels", "classes", "stride", "dims"),
    [(5, 3, 1, 2), (4, 2, 2, 3), (6, 1, 4, 3), (7, 4, 16, 2)],
)
def test_a_head_brings_a_map_to_full_size_with_the_stated_parameters(
    channels: int, classes: int, stride: int, dims: int
) -> None:
    head = DeepUp(channels, classes, stride, dims)  # type: ignore[arg-type]
    assert head(torch.randn(2, channels, *[3] * dims)).shape == (2, classes, *[3 * stride] * dims)
    kernel = min(2, stride) ** dims
    own = channels * classes + classes + classes * classes * kernel + classes
    assert count_parameters(head) == own


def test_the_heads_of_the_official_nnu_net_have_its_parameters() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.networks.nets import DynUNet

        filters = [32, 64, 128, 256, 320]
        network = DynUNet(3, 1, 8, [3] * 5, [1, 2, 2, 2, 2], [2] * 4, filters=filters)
    method = DSD(network, parse_recipe({"data": {"channels": 1}}), shared_heads=True)
    assert len(method.heads) == 5
    assert count_parameters(method.heads) == 8592


def test_the_shipped_network_is_the_plain_one() -> None:
    method = make_method()
    plain = create_model("unet", widths=(4, 6, 8))
    plain.load_state_dict(method.shipped.state_dict())
    image = make_batch()["image"]
    with torch.no_grad():
        assert torch.equal(method.eval().shipped(image), plain.eval()(image))


@given(seed=st.integers(0, 1000), classes=st.integers(2, 4), temperature=st.floats(0.5, 5))
@settings(max_examples=15, deadline=None)
def test_the_gradient_of_the_divergence_has_its_closed_form(
    seed: int, classes: int, temperature: float
) -> None:
    torch.manual_seed(seed)
    pupil, teacher = torch.randn(2, 2, classes, 3, 4, dtype=torch.float64)
    pupil.requires_grad_()
    method = make_method(temperature=temperature)
    method.divergence(pupil, teacher).backward()
    apart = (pupil / temperature).softmax(1) - (teacher / temperature).softmax(1)
    assert torch.allclose(pupil.grad, temperature * apart.detach() / 24)  # type: ignore[arg-type]


def test_the_divergence_is_pytorchs() -> None:
    pupil, teacher = torch.randn(2, 2, 3, 4, 5)
    each = F.kl_div((pupil / 3).log_softmax(1), (teacher / 3).softmax(1), reduction="none")
    assert torch.allclose(make_method().divergence(pupil, teacher), 9 * each.sum(1).mean())


def test_equals_do_not_diverge() -> None:
    logits = torch.randn(2, 1, 4, 5)
    assert float(make_method().divergence(logits, logits)) == 0


def test_without_alpha_it_is_deep_supervision_of_the_decoder() -> None:
    method, batch = make_method(alpha=0), make_batch()
    losses = method.training_step(batch)
    main, *levels = method.outputs(batch["image"])
    each = [sum(weighted_losses(x, batch["mask"], RECIPE.loss).values()) for x in [main, *levels]]
    assert losses.keys() == {"main", "decoder"}
    assert torch.equal(losses["main"], torch.as_tensor(each[0]))
    assert torch.allclose(losses["decoder"], each[1] + each[2])  # type: ignore[arg-type]


def test_the_last_level_of_each_path_teaches_the_others() -> None:
    method, batch = make_method(alpha=2), make_batch()
    _, first, deepest, bottleneck, finest = method.outputs(batch["image"])
    taught = method.divergence(first, deepest) + method.divergence(bottleneck, finest)
    assert torch.allclose(method.training_step(batch)["distillation"], 2 * taught)


@pytest.mark.parametrize("detach", [True, False])
def test_teachers_learn_from_their_pupils_as_released_unless_detached(detach: bool) -> None:
    method = make_method(detach_teacher=detach)
    method.training_step(make_batch())["distillation"].backward()
    deepest = method.heads[method.keys[method.encoder[-1]]]
    learnt = any(p.grad is not None and bool(p.grad.any()) for p in deepest.parameters())
    assert learnt != detach


def test_the_truth_does_not_reach_the_heads_of_the_encoder() -> None:
    method = make_method()
    losses = method.training_step(make_batch())
    (losses["main"] + losses["decoder"]).backward()
    for tap in method.encoder:
        assert all(p.grad is None for p in method.heads[method.keys[tap]].parameters())


def test_images_of_a_size_that_is_padded_inside_are_learnt_from() -> None:
    outputs = make_method(classes=3).outputs(make_batch(3, size=18)["image"])
    assert {output.shape for output in outputs} == {(2, 3, 18, 18)}


@pytest.mark.parametrize("options", [{"alpha": -1.0}, {"temperature": 0.0}])
def test_values_out_of_range_are_errors(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="alpha"):
        make_method(**options)


def test_it_supervises_levels_itself() -> None:
    recipe = parse_recipe({"data": {"channels": 3}, "loss": {"deep_supervision": [1.0]}})
    with pytest.raises(RecipeError, match="deep_supervision: dsd supervises the levels itself"):
        DSD(create_model("unet", widths=(4, 6, 8)), recipe)


def balls(count: int, key: int) -> tuple[Tensor, Tensor]:
    """Noisy volumes of 16 voxels with two bright balls, the larger of which is meant."""
    random = torch.Generator().manual_seed(key)
    axes = torch.meshgrid(*[torch.arange(16.0)] * 3, indexing="ij")
    images, masks = torch.zeros(count, 1, 16, 16, 16), torch.zeros(count, 16, 16, 16).byte()
    for image, mask in zip(images, masks, strict=True):
        for radius in (2.5, 4.0):
            centre = (torch.rand(3, generator=random) * 8 + 4).tolist()
            ball = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) < radius**2
            image[0][ball] = 1
            mask[:] = ball
    return images + 0.6 * torch.randn(images.shape, generator=random), masks


def learnt(kind: type[Method], seed: int) -> float:
    """Dice of 16 new volumes after 60 steps on eight."""
    torch.manual_seed(seed)
    options: dict[str, Any] = {"dims": 3, "widths": (6, 8, 10), "deep_supervision": False}
    network = create_model("unetpp", in_channels=1, **options)
    method = kind(network, parse_recipe({"data": {"channels": 1}}))
    optimizer = torch.optim.AdamW(method.parameters(), 3e-3)
    (images, masks), unseen = balls(8, seed), balls(16, 100 + seed)
    for step in range(60):
        part = slice(4 * (step % 2), 4 * (step % 2) + 4)
        optimizer.zero_grad()
        losses = method({"image": images[part], "mask": masks[part], "case_id": ("",) * 4})
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    with torch.no_grad():
        found = method.shipped.eval()(unseen[0])[:, 0] > 0
    both = (found & (unseen[1] > 0)).sum((1, 2, 3))
    return float((2 * both / (found.sum((1, 2, 3)) + unseen[1].sum((1, 2, 3)))).mean())


@pytest.mark.slow
def test_eight_volumes_teach_no_worse_with_distillation_than_without() -> None:
    plain, taught = (sum(learnt(kind, seed) for seed in range(3)) / 3 for kind in (Supervised, DSD))
    assert taught > plain - 0.02
