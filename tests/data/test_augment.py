"""Properties of the training augmentation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from medseg.data.augment import Augment, AugmentSettings, Draw, _elastic_field, _mean, apply, draw

PARTS = ["rotate", "scale", "shift", "elastic", "brightness", "contrast", "saturation"]
PARTS += ["gamma", "blur", "noise"]
OFF: dict[str, Any] = {f"{part}_prob": 0 for part in PARTS}
OFF |= {"flip_horizontal": 0, "flip_vertical": 0}
EVERYTHING = AugmentSettings(elastic=6, **{f"{part}_prob": 1 for part in PARTS})


def batch(count: int, channels: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(count, channels, height, width, generator=generator)
    mask = torch.randint(0, 3, (count, height, width), generator=generator, dtype=torch.uint8)
    return image, mask


def disc(size: int = 64) -> Tensor:
    """A mask (1, size, size) of an off-centre disc."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return ((x - size * 0.6) ** 2 + (y - size * 0.4) ** 2 < (size / 5) ** 2).to(torch.uint8)[None]


def keys(count: int, epoch: int = 0) -> list[tuple[int, ...]]:
    return [(7, epoch, position) for position in range(count)]


@pytest.mark.parametrize("settings", [AugmentSettings(), EVERYTHING], ids=["default", "all"])
@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 37, 53), (3, 45, 31)])
def test_a_sample_does_not_depend_on_its_batch_or_place(
    settings: AugmentSettings, shape: tuple[int, int, int]
) -> None:
    augment = Augment(settings)
    image, mask = batch(6, *shape)
    together = augment(image, mask, keys(6))
    torch.rand(1)  # the global generator moves on
    backwards = augment(image.flip(0), mask.flip(0), keys(6)[::-1])
    for index, key in enumerate(keys(6)):
        alone = augment(image[index : index + 1], mask[index : index + 1], [key])
        for one, all_, reverse in zip(alone, together, backwards, strict=True):
            assert torch.equal(one[0], all_[index])
            assert torch.equal(one[0], reverse[5 - index])


@pytest.mark.parametrize("shape", [(3, 256, 256), (3, 251, 333)])
def test_bits_do_not_depend_on_the_number_of_threads(shape: tuple[int, int, int]) -> None:
    image, mask = batch(2, *shape)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(Augment(EVERYTHING)(image, mask, keys(2)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_same_key_same_bits_and_other_keys_other_bits() -> None:
    augment = Augment(AugmentSettings())
    image, mask = batch(8, 3, 32, 32)
    first = augment(image, mask, keys(8))
    assert all(map(torch.equal, first, augment(image, mask, keys(8))))
    assert not torch.equal(first[0], augment(image, mask, keys(8, epoch=1))[0])
    same_image = augment(image[:1].expand(8, -1, -1, -1), mask, keys(8))[0]
    assert len({sample.numpy().tobytes() for sample in same_image}) > 1


@pytest.mark.parametrize(
    "settings", [AugmentSettings(enabled=False), AugmentSettings(**OFF)], ids=["disabled", "off"]
)
def test_switched_off_is_the_identity(settings: AugmentSettings) -> None:
    image, mask = batch(4, 3, 33, 20)
    changed = Augment(settings)(image, mask, keys(4))
    assert torch.equal(changed[0], image)
    assert torch.equal(changed[1], mask)


def test_zero_strengths_are_the_identity() -> None:
    parts = ["rotate", "shift", "elastic", "brightness", "contrast", "saturation", "noise"]
    settings = AugmentSettings(
        **OFF | {f"{part}_prob": 1 for part in parts}, **dict.fromkeys(parts, 0)
    )
    image, mask = batch(2, 3, 16, 16)
    assert torch.equal(Augment(settings)(image, mask, keys(2))[0], image)


def test_the_inputs_are_left_as_they_were() -> None:
    image, mask = batch(4, 3, 32, 32)
    before = image.clone(), mask.clone()
    Augment(EVERYTHING)(image, mask, keys(4))
    assert torch.equal(image, before[0])
    assert torch.equal(mask, before[1])


def test_switching_one_part_off_leaves_the_others_draws() -> None:
    for key in keys(20):
        with_rotation, without = (
            draw(EVERYTHING, key),
            draw(EVERYTHING.model_copy(update={"rotate_prob": 0}), key),
        )
        assert without.angle == 0
        assert (with_rotation.scale, with_rotation.noise) == (without.scale, without.noise)
        assert with_rotation.seed == without.seed


def test_flips_are_exact() -> None:
    image, mask = batch(3, 3, 17, 24)
    draws = [Draw(flip_horizontal=True), Draw(flip_vertical=True), Draw(True, True)]
    moved_image, moved_mask = apply(image, mask, draws)
    for index, axes in enumerate([[-1], [-2], [-1, -2]]):
        assert torch.equal(moved_image[index], image[index].flip(axes))
        assert torch.equal(moved_mask[index], mask[index].flip(axes))


@pytest.mark.parametrize("axes", [(True, False), (False, True), (True, True)])
def test_a_flip_inside_the_grid_is_the_same_flip(axes: tuple[bool, bool]) -> None:
    image, mask = batch(1, 1, 32, 32)
    exact, _ = apply(image, mask, [Draw(*axes)])
    # A full turn changes nothing but is not recognised as such, so that it takes the grid.
    gridded, _ = apply(image, mask, [Draw(*axes, angle=360)])
    assert torch.allclose(exact, gridded, atol=1e-4)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_rotation_by_right_angles_is_rot90(turns: int) -> None:
    image, mask = batch(1, 3, 40, 40)
    moved_image, moved_mask = apply(image, mask, [Draw(angle=90 * turns)])
    assert torch.allclose(moved_image, image.rot90(turns, (-2, -1)), atol=1e-4)
    assert torch.equal(moved_mask, mask.rot90(turns, (-2, -1)))


def test_a_rotation_of_an_oblong_image_keeps_lengths() -> None:
    mask = torch.zeros(1, 80, 160, dtype=torch.uint8)
    mask[:, 38:42, 60:100] = 1  # 40 wide, 4 high, centred
    _, turned = apply(mask.float().unsqueeze(1), mask, [Draw(angle=90)])
    rows, columns = turned[0].nonzero(as_tuple=True)
    assert (int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1) == (40, 4)


def test_scale_magnifies_about_the_centre() -> None:
    mask = torch.zeros(1, 60, 60, dtype=torch.uint8)
    mask[:, 20:40, 20:40] = 1
    _, larger = apply(mask.float().unsqueeze(1), mask, [Draw(scale=1.5)])
    expected = torch.zeros_like(mask)
    expected[:, 15:45, 15:45] = 1
    assert torch.equal(larger, expected)


def test_shift_moves_by_its_fraction_and_leaves_background() -> None:
    image, mask = batch(1, 3, 20, 40)
    moved_image, moved_mask = apply(image, mask + 1, [Draw(shift=(0.25, -0.1))])
    assert torch.allclose(moved_image[..., :-2, 10:], image[..., 2:, :-10], atol=1e-5)
    assert torch.equal(moved_mask[..., :-2, 10:], mask[..., 2:, :-10] + 1)
    assert not moved_mask[..., :10].any()
    assert not moved_image[..., :9].any()


def test_image_and_mask_move_together() -> None:
    settings = AugmentSettings(**OFF | {f"{p}_prob": 1 for p in PARTS[:4]}, elastic=4)
    mask = disc().expand(12, -1, -1)
    image = mask.unsqueeze(1).float()
    moved_image, moved_mask = Augment(settings)(image, mask, keys(12))
    # A nearest label may differ from a thresholded interpolation on the outline only.
    inside, outside = moved_image[:, 0] > 0.99, moved_image[:, 0] < 0.01
    assert moved_mask[inside].eq(1).all()
    assert moved_mask[outside].eq(0).all()
    assert (inside | outside).float().mean() > 0.9
    assert not torch.equal(moved_mask, mask)


def test_values_stay_in_range_and_masks_hold_only_their_labels() -> None:
    image, _ = batch(8, 3, 48, 40)
    mask = torch.tensor([0, 5, 255], dtype=torch.uint8)[torch.randint(3, (8, 48, 40))]
    strong = EVERYTHING.model_copy(update={"brightness": 1.0, "noise": 1.0, "contrast": 1.0})
    for epoch in range(4):
        moved_image, moved_mask = Augment(strong)(image, mask, keys(8, epoch))
        assert moved_image.min() >= 0
        assert moved_image.max() <= 1
        assert set(moved_mask.unique().tolist()) <= {0, 5, 255}
        assert (moved_image.dtype, moved_mask.dtype) == (torch.float32, torch.uint8)
        assert (moved_image.shape, moved_mask.shape) == (image.shape, mask.shape)


def test_the_elastic_field_is_bounded_and_smooth() -> None:
    for seed in range(20):
        changes = Draw(elastic=5, elastic_smoothness=16, seed=seed)
        unit = torch.tensor([2 / 96, 2 / 72])
        field = _elastic_field(changes, 72, 96, torch.device("cpu")) / unit  # pixels
        assert field.shape == (72, 96, 2)
        assert field.abs().max() <= 5 * (1 + 1e-5)
        assert field.abs().max() > 0.5
        # The slope of a cubic B-spline is at most the largest step between control points.
        assert field.diff(dim=0).abs().max() <= 2 * 5 / 16
        assert field.diff(dim=1).abs().max() <= 2 * 5 / 16
        assert field.diff(n=2, dim=0).abs().max() <= 4 * 5 / 16**2 + 1e-4


def test_brightness_and_contrast_are_what_they_say() -> None:
    image, mask = batch(1, 3, 32, 32)
    image = 0.4 + 0.2 * image
    changed, _ = apply(image, mask, [Draw(brightness=0.1, contrast=0.5)])
    assert changed.mean() == pytest.approx(float(image.mean()) + 0.1, abs=0.002)
    assert changed.std() == pytest.approx(float(image.std()) * 0.5, rel=1e-3)
    assert _mean(image[0]) == pytest.approx(float(image.mean()), abs=1 / 510)


def test_gamma_is_the_power_to_a_grey_level() -> None:
    image = torch.linspace(0, 1, 4096).view(1, 1, 64, 64)
    mask = torch.zeros(1, 64, 64, dtype=torch.uint8)
    for gamma in (0.7, 1.4):
        changed, _ = apply(image, mask, [Draw(gamma=gamma)])
        assert torch.allclose(changed, image**gamma, atol=0.5 / 255)
        assert changed.flatten().diff().min() >= 0


def test_no_saturation_is_grey_and_one_channel_has_none() -> None:
    image, mask = batch(1, 3, 16, 16)
    grey, _ = apply(image, mask, [Draw(saturation=0)])
    assert torch.allclose(grey[:, 0], grey[:, 2], atol=1e-6)
    single, _ = apply(image[:, :1], mask, [Draw(saturation=0)])
    assert torch.equal(single, image[:, :1])


def test_blur_matches_scipy() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    image, mask = batch(1, 2, 30, 25)
    blurred, _ = apply(image, mask, [Draw(blur=1.1)])
    radius = int(np.ceil(3 * 1.1))
    for channel in range(2):
        expected = ndimage.gaussian_filter(image[0, channel], 1.1, mode="nearest", radius=radius)
        np.testing.assert_allclose(blurred[0, channel], expected, atol=1e-5)


def test_noise_has_its_standard_deviation() -> None:
    image = torch.full((1, 1, 128, 128), 0.5)
    noisy, _ = apply(image, torch.zeros(1, 128, 128, dtype=torch.uint8), [Draw(noise=0.05, seed=2)])
    assert (noisy - image).std() == pytest.approx(0.05, rel=0.05)
    assert (noisy - image).mean() == pytest.approx(0, abs=0.002)


def test_parts_are_drawn_as_often_as_asked() -> None:
    draws = [draw(AugmentSettings(), key) for key in keys(2000)]
    assert np.mean([d.flip_horizontal for d in draws]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([d.blur > 0 for d in draws]) == pytest.approx(0.1, abs=0.03)
    angles = np.array([d.angle for d in draws])
    assert np.abs(angles).max() <= 20
    assert np.mean(angles != 0) == pytest.approx(0.5, abs=0.04)
    scales = np.array([d.scale for d in draws])
    assert scales.min() >= 0.75
    assert scales.max() <= 1.25


@pytest.mark.parametrize(
    "wrong",
    [
        {"flip_horizontal": 1.5},
        {"rotate_prob": -0.1},
        {"scale": (1.2, 0.8)},
        {"scale": (0, 1)},
        {"gamma": (0.5, float("inf"))},
        {"rotation": 10},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AugmentSettings(**wrong)


def test_inputs_that_do_not_belong_together_are_refused() -> None:
    image, mask = batch(2, 3, 8, 8)
    with pytest.raises(ValueError, match="a key per sample"):
        Augment(AugmentSettings())(image, mask, keys(3))
    with pytest.raises(ValueError, match=r"\(B, H, W\)"):
        Augment(AugmentSettings())(image, mask[:, None], keys(2))
