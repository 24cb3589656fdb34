from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.data.case import IGNORE
from medseg.errors import RecipeError
from medseg.methods.gms import GenerativeSegmentation
from medseg.methods.method import Batch, TrainingData
from medseg.networks.generative.autoencoders import Autoencoder
from medseg.networks.generative.gms import GMS
from medseg.recipe import parse_recipe

RECIPE = parse_recipe({"system": "gms"})
DATA = TrainingData(split={}, images={}, num_classes=1, mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3))


def make_batch(size: int = 16) -> Batch:
    torch.manual_seed(0)
    mask = torch.zeros(2, size, size, dtype=torch.uint8)
    mask[0, 3:9, 2:11] = 1
    mask[1, 6:13, 7:] = 1
    image = mask.unsqueeze(1) + 0.3 * torch.randn(2, 3, size, size)
    return {"image": image, "mask": mask, "case_id": ("a", "b")}


def make_method(classes: int = 1, **options: float | bool) -> GenerativeSegmentation:
    torch.manual_seed(0)
    method = GenerativeSegmentation(GMS(3, classes, width=16), RECIPE, **options)  # type: ignore[arg-type]
    method.steps = 10
    return method


def losses_at(method: GenerativeSegmentation, phase: str, step: int) -> dict[str, Tensor]:
    method.phase, method.step = phase, step
    batch = make_batch()
    torch.manual_seed(1)
    losses: dict[str, Tensor] = method(batch)
    return losses


def take_step(method: GenerativeSegmentation, step: int) -> None:
    optimizers = method.make_optimizers()
    for phase in method.phases:
        torch.stack(list(losses_at(method, phase, step).values())).sum().backward()
        optimizers[phase].step()
        method.zero_grad()


def state_of(module: nn.Module) -> list[Tensor]:
    return [each.detach().clone() for each in module.parameters()]


def unchanged(before: list[Tensor], module: nn.Module) -> bool:
    return all(torch.equal(*pair) for pair in zip(before, module.parameters(), strict=True))


def test_first_the_autoencoder_learns_and_the_mapping_has_no_loss() -> None:
    method = make_method(autoencoder_share=0.4)
    before = state_of(method.model.autoencoder)
    assert losses_at(method, "autoencoder", 3)["reconstruction"] > 0.1
    assert not any(losses_at(method, "main", 3).values())
    take_step(method, 3)
    assert not unchanged(before, method.model.autoencoder)


def test_then_no_bit_of_the_autoencoder_changes_while_the_mapping_learns_through_it() -> None:
    method = make_method(autoencoder_share=0.4)
    codes, mapping = state_of(method.model.autoencoder), state_of(method.model.mapping)
    take_step(method, 4)
    assert unchanged(codes, method.model.autoencoder)
    assert not unchanged(mapping, method.model.mapping)
    losses_at(method, "main", 4)["dice"].backward()
    first = method.model.mapping.stem.weight.grad
    assert first is not None
    assert first.abs().sum() > 0


def test_codes_and_decoded_masks_of_the_last_three_levels_are_matched() -> None:
    method, batch = make_method(jitter=0), make_batch()
    model = method.model
    found = losses_at(method, "main", 9)
    truth = batch["mask"].unsqueeze(1).float()
    with torch.no_grad():
        target = model.encode((2 * truth - 1).expand(-1, 3, -1, -1))[0]
        levels = model.mapping.forward_all(model.encode(model.picture(batch["image"]))[0])
        code = sum(F.mse_loss(level, target) for level in levels[1:])
        shares = [((model.decode(level) + 1) / 2).clamp(0, 1) for level in levels[1:]]
        overlaps = [2 * (p * truth).sum((2, 3)) for p in shares]
        sizes = [p.sum((2, 3)) + truth.sum((2, 3)) for p in shares]
        dice = sum(1 - (o / s).mean() for o, s in zip(overlaps, sizes, strict=True))
    assert found["code"].item() == pytest.approx(float(code), rel=1e-5)
    assert found["dice"].item() == pytest.approx(float(dice), rel=1e-5)


def test_the_reconstruction_is_of_images_and_masks_alike() -> None:
    method = make_method()
    seen: list[Tensor] = []
    encode = method.model.autoencoder.encode

    def remember(picture: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(picture)
        return encode(picture)

    method.model.autoencoder.encode = remember  # type: ignore[method-assign]
    losses_at(method, "autoencoder", 0)
    batch = make_batch()
    assert torch.equal(seen[0][:2], method.model.picture(batch["image"]))
    assert torch.equal(seen[0][2:], (2.0 * batch["mask"] - 1).unsqueeze(1).expand(-1, 3, -1, -1))


@pytest.mark.parametrize(("as_released", "times"), [(False, 1.0), (True, 1 / 0.18215)])
def test_drawn_codes_are_off_by_a_deviation_that_the_released_code_does_not_scale(
    as_released: bool, times: float
) -> None:
    method = make_method(jitter=1, as_released=as_released)
    autoencoder = method.model.autoencoder
    autoencoder.scale = 0.18215
    mean, deviation = torch.zeros(2, 4, 2, 2), torch.full((2, 4, 2, 2), 3.0)
    autoencoder.encode = lambda picture: (mean[: len(picture)], deviation[: len(picture)])  # type: ignore[method-assign]
    seen: list[Tensor] = []
    method.model.mapping.stem.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    losses_at(method, "main", 9)
    torch.manual_seed(1)
    torch.rand(2, 1, 1, 1)
    expected = times * 0.18215 * 3.0 * torch.randn(2, 4, 2, 2)
    torch.testing.assert_close(seen[0], expected)


def test_of_several_classes_each_has_a_picture_and_unknown_pixels_are_background() -> None:
    method = make_method(classes=3)
    mask = torch.tensor([[[0, 1], [2, IGNORE]]], dtype=torch.uint8)
    planes = method.planes_of(mask)
    assert planes.int().tolist() == [[[[1, 0], [0, 1]], [[0, 1], [0, 0]], [[0, 0], [1, 0]]]]
    assert method.mask_pictures(mask).shape == (1, 3, 3, 8, 8)


def test_unknown_pixels_are_not_in_the_dice_loss() -> None:
    method, mask = make_method(), make_batch()["mask"]
    grey, planes = torch.randn(2, 1, 16, 16), method.planes_of(mask)
    known = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    known[..., 8:, :] = False
    changed = grey.clone()
    changed[..., 8:, :] += 1
    ours = method._dice_loss(grey, planes & known, known)
    torch.testing.assert_close(method._dice_loss(changed, planes & known, known), ours)


def test_the_network_learns_how_images_are_normalised() -> None:
    method = make_method()
    method.prepare(DATA)
    pixels = torch.rand(1, 3, 8, 8)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (DATA.mean, DATA.std))
    torch.testing.assert_close(method.model.picture((pixels - mean) / std), 2 * pixels - 1)


def test_a_patience_that_ends_before_the_mapping_learns_is_an_error_that_says_what_is_enough() -> (
    None
):
    recipe = parse_recipe({"system": "gms", "train": {"epochs": 40, "patience": 10}})
    with pytest.raises(RecipeError, match=r"train.patience=10.*above 10"):
        GenerativeSegmentation(GMS(width=16), recipe).prepare(DATA)
    enough = parse_recipe({"system": "gms", "train": {"epochs": 40, "patience": 11}})
    GenerativeSegmentation(GMS(width=16), enough).prepare(DATA)


def test_both_losses_fall() -> None:
    method = make_method(autoencoder_share=0.5)
    method.steps = 40
    optimizers, seen = method.make_optimizers(), []
    for step in range(40):
        method.step = step
        for phase in method.phases:
            method.phase = phase
            torch.manual_seed(step)
            loss = torch.stack(list(method(make_batch()).values())).sum()
            loss.backward()
            optimizers[phase].step()
            method.zero_grad()
            if (phase == "autoencoder") == (step < 20):
                seen.append(loss.item())
    assert seen[19] < 0.8 * seen[0]
    assert seen[-1] < 0.8 * seen[20]


class Quadrants(Autoencoder):
    """A code that loses nothing of pictures of grey squares of four pixels."""

    def encode(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        squares = F.avg_pool2d(picture.mean(1, keepdim=True), 4)
        code = F.pixel_unshuffle(squares, 2)
        return code, torch.full_like(code, 0.05)

    def decode(self, code: Tensor) -> Tensor:
        squares = F.pixel_shuffle(code, 2)
        return F.interpolate(squares, scale_factor=4).expand(-1, 3, -1, -1)


def blobs(count: int) -> Batch:
    """Brighter blobs of squares of four pixels, in images of any brightness."""
    seeds = F.avg_pool2d(torch.randn(count, 1, 12, 12), 5, stride=1)
    mask = (F.interpolate(seeds, scale_factor=4) > 0.1).float()
    image = mask + 3 * torch.rand(count, 1, 1, 1) - 2 + 0.2 * torch.randn(count, 1, 32, 32)
    return {"image": image.expand(-1, 3, -1, -1), "mask": mask[:, 0].byte(), "case_id": ()}


def dice(found: Tensor, mask: Tensor) -> float:
    both = (found & (mask > 0)).sum((1, 2))
    return float((2 * both / (found.sum((1, 2)) + mask.sum((1, 2)))).mean())


def test_the_true_masks_code_is_decoded_to_the_mask() -> None:
    method, batch = make_method(), blobs(8)
    method.model.autoencoder = Quadrants()
    code, _ = method.model.encode(method.mask_pictures(batch["mask"])[:, 0])
    assert torch.equal(method.model.decode(code)[:, 0] > 0, batch["mask"] > 0)


def test_the_mapping_is_better_than_the_images_own_code_and_than_that_of_the_nearest_image() -> (
    None
):
    method = make_method(jitter=0.5)
    model = method.model
    model.autoencoder = Quadrants()
    known, unseen = blobs(64), blobs(32)
    optimizer = torch.optim.AdamW(model.mapping.parameters(), lr=1e-2)
    method.phase, method.step = "main", method.steps
    for step in range(100):
        part = slice(step % 8 * 8, step % 8 * 8 + 8)
        batch: Batch = {"image": known["image"][part], "mask": known["mask"][part], "case_id": ()}
        optimizer.zero_grad()
        torch.stack(list(method(batch).values())).sum().backward()
        optimizer.step()
    with torch.no_grad():
        old, new = (model.encode(model.picture(each["image"]))[0] for each in (known, unseen))
        nearest = torch.cdist(new.flatten(1), old.flatten(1)).argmin(1)
        mapped = dice(model(unseen["image"])[:, 0] > 0, unseen["mask"])
        decoded = dice(model.decode(new)[:, 0] > 0, unseen["mask"])
        alike = dice(known["mask"][nearest] > 0, unseen["mask"])
    assert mapped > max(decoded, alike) + 0.1


def test_another_network_is_an_error_that_says_which_to_use() -> None:
    with pytest.raises(RecipeError, match="--system gms"):
        GenerativeSegmentation(nn.Conv2d(3, 1, 1), RECIPE)


def test_weights_for_the_small_autoencoder_are_an_error() -> None:
    with pytest.raises(RecipeError, match=r"method_options.weights=here"):
        GenerativeSegmentation(GMS(width=16), RECIPE, weights="here")


@pytest.mark.parametrize(
    "options", [{"autoencoder_share": 0.0}, {"autoencoder_share": 1.0}, {"jitter": 1.5}]
)
def test_values_out_of_range_are_errors_that_name_them(options: dict[str, float]) -> None:
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name} {value}"):
        make_method(**options)
