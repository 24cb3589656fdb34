"""Random changes to training patches of volumes."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from scipy import ndimage

from medseg.data.augment3d import Augment3d, Augment3dSettings, Draw3d, apply, draw
from medseg.data.case import IGNORE

CUBES = (1.0, 1.0, 1.0)
ALWAYS = Augment3dSettings(
    flip=("slices", "rows", "columns"),
    rotate_prob=1, scale_prob=1, brightness_prob=1, contrast_prob=1, gamma_prob=1, blur_prob=1,
    noise_prob=1,
)  # fmt: skip


def patches(count: int = 2, shape: tuple[int, int, int] = (10, 12, 14)) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn((count, 2, *shape), generator=generator)
    return image, (image[:, 0] > 0.5).to(torch.uint8)


def keys(count: int) -> list[tuple[int, int, int]]:
    return [(0, 3, position) for position in range(count)]


def test_a_patch_changes_alike_whatever_else_is_in_the_batch() -> None:
    image, mask = patches(3)
    augment = Augment3d(ALWAYS, CUBES)
    together = augment(image, mask, keys(3))
    alone = augment(image[2:], mask[2:], keys(3)[2:])
    assert torch.equal(together[0][2:], alone[0])
    assert torch.equal(together[1][2:], alone[1])


def test_another_key_changes_otherwise() -> None:
    image, mask = patches(1)
    augment = Augment3d(ALWAYS, CUBES)
    one, other = (augment(image, mask, [(0, 0, position)])[0] for position in (1, 2))
    assert not torch.equal(one, other)


def test_the_inputs_are_left_as_they_were() -> None:
    image, mask = patches()
    before = image.clone(), mask.clone()
    Augment3d(ALWAYS, CUBES)(image, mask, keys(2))
    assert torch.equal(image, before[0])
    assert torch.equal(mask, before[1])


def test_switched_off_nothing_changes() -> None:
    image, mask = patches()
    found = Augment3d(Augment3dSettings(enabled=False), CUBES)(image, mask, keys(2))
    assert found[0] is image
    assert found[1] is mask


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flip_mirrors_image_and_mask_along_its_axis(axis: int) -> None:
    image, mask = patches(1)
    flips = tuple(axis == each for each in range(3))
    found = apply(image, mask, [Draw3d(flips=flips)], CUBES)  # type: ignore[arg-type]
    assert torch.equal(found[0], image.flip(axis + 2))
    assert torch.equal(found[1], mask.flip(axis + 1))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_quarter_turn_moves_every_voxel_to_a_voxel(axis: int) -> None:
    image, mask = patches(1, (8, 8, 8))
    angles = tuple(90.0 if axis == each else 0.0 for each in range(3))
    found = apply(image, mask, [Draw3d(angles=angles)], CUBES)  # type: ignore[arg-type]
    plane = [each for each in range(3) if each != axis]
    turns = [torch.rot90(image, k, [a + 2 for a in plane]) for k in (1, 3)]
    assert min(float((found[0] - turn).abs().max()) for turn in turns) < 1e-4
    turned = [torch.rot90(mask, k, [a + 1 for a in plane]) for k in (1, 3)]
    assert any(torch.equal(found[1], turn) for turn in turned)


def test_a_turned_ball_stays_a_ball_where_voxels_are_no_cubes() -> None:
    spacing = (2.0, 1.0, 1.0)
    steps = [
        (torch.arange(n) - (n - 1) / 2) * mm for n, mm in zip((13, 25, 25), spacing, strict=True)
    ]
    away = sum(each**2 for each in torch.meshgrid(*steps, indexing="ij"))
    ball = (away < 64).to(torch.uint8)[None]  # type: ignore[union-attr]
    found = apply(ball[:, None].float(), ball, [Draw3d(angles=(0.0, 90.0, 0.0))], spacing)[1]
    inside = found != IGNORE
    assert float((found[inside] == ball[inside]).float().mean()) > 0.97


def test_what_comes_from_outside_is_0_and_not_known() -> None:
    image, mask = patches(1)
    found = apply(image, mask, [Draw3d(scale=0.5)], CUBES)
    assert (found[1][0, 0] == IGNORE).all()
    assert not found[0][0, :, 0].any()
    assert (found[1][0, 3:7, 4:8, 4:10] != IGNORE).all()


def test_what_is_not_known_stays_so() -> None:
    image, mask = patches(1)
    mask[:] = IGNORE
    found = apply(image, mask, [Draw3d(angles=(10.0, 0.0, 0.0))], CUBES)
    assert (found[1] == IGNORE).all()


@pytest.mark.parametrize("spacing", [(5.0, 1.0, 1.0), None])
def test_thick_slices_are_only_turned_within_themselves(
    spacing: tuple[float, float, float] | None,
) -> None:
    assert Augment3d(ALWAYS, spacing).flat == 0
    changes = draw(ALWAYS, (0, 0, 0), flat=0)
    assert changes.angles[0] != 0
    assert changes.angles[1:] == (0, 0)


def test_contrast_keeps_the_mean_and_scales_the_deviation() -> None:
    image, mask = patches(1)
    found, _ = apply(image, mask, [Draw3d(contrast=1.5)], CUBES)
    for before, after in zip(image[0], found[0], strict=True):
        assert abs(float(after.mean() - before.mean())) < 1e-3
        assert float(after.std() / before.std()) == pytest.approx(1.5, abs=1e-4)


def test_gamma_keeps_the_smallest_and_the_largest_value() -> None:
    image, mask = patches(1)
    found, _ = apply(image, mask, [Draw3d(gamma=2.0)], CUBES)
    assert float(found[0, 0].min()) == pytest.approx(float(image[0, 0].min()), abs=1e-4)
    assert float(found[0, 0].max()) == pytest.approx(float(image[0, 0].max()), abs=1e-4)
    assert (found <= image + 1e-3).all()


def test_gamma_leaves_a_patch_of_one_value() -> None:
    image = torch.full((1, 1, 4, 4, 4), 2.0)
    found, _ = apply(image, torch.zeros(1, 4, 4, 4, dtype=torch.uint8), [Draw3d(gamma=2.0)], CUBES)
    assert torch.equal(found, image)


def test_blur_matches_scipy() -> None:
    image, mask = patches(1)
    found, _ = apply(image, mask, [Draw3d(blur=0.8)], CUBES)
    expected = ndimage.gaussian_filter(image[0, 0].numpy(), 0.8, mode="nearest", radius=3)
    assert float((found[0, 0] - torch.from_numpy(expected)).abs().max()) < 1e-5


def test_noise_has_the_deviation_that_was_drawn() -> None:
    image = torch.zeros(1, 1, 20, 20, 20)
    mask = torch.zeros(1, 20, 20, 20, dtype=torch.uint8)
    found, _ = apply(image, mask, [Draw3d(noise=0.2, seed=1)], CUBES)
    assert float(found.std()) == pytest.approx(0.2, rel=0.05)


def test_switching_a_part_off_leaves_what_others_draw() -> None:
    still = ALWAYS.model_copy(update={"rotate_prob": 0.0})
    one, other = draw(ALWAYS, (1, 2, 3)), draw(still, (1, 2, 3))
    assert other.angles == (0, 0, 0)
    assert (one.scale, one.gamma, one.seed) == (other.scale, other.gamma, other.seed)


def test_only_named_axes_are_mirrored() -> None:
    settings = ALWAYS.model_copy(update={"flip": ("columns",), "flip_prob": 1.0})
    assert draw(settings, (0, 0, 0)).flips == (False, False, True)


def test_a_range_must_be_ordered() -> None:
    with pytest.raises(ValidationError, match="smallest"):
        Augment3dSettings(scale=(1.2, 0.8))


def test_mask_and_keys_must_fit() -> None:
    image, mask = patches()
    with pytest.raises(ValueError, match="found"):
        Augment3d(ALWAYS, CUBES)(image, mask[:, 1:], keys(2))
    with pytest.raises(ValueError, match="a key per patch"):
        Augment3d(ALWAYS, CUBES)(image, mask, keys(1))
