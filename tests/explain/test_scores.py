from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medseg.explain.scores import (
    faithfulness,
    pointing,
    rank_correlation,
    reinitialised,
    structural_similarity,
)
from medseg.explain.target import Target
from medseg.models import create_model


class Pixel(nn.Module):
    """The logit everywhere is that of the brightest pixel."""

    def forward(self, image: Tensor) -> Tensor:
        return 10 * image.amax((-2, -1), keepdim=True).expand_as(image) - 5


def one_bright_pixel() -> tuple[Tensor, np.ndarray]:
    image = torch.zeros(1, 1, 20, 20)
    image[0, 0, 9, 4] = 1
    return image, image[0, 0].numpy()


def test_the_pixel_that_decides_is_deleted_first_and_inserted_first() -> None:
    image, best = one_bright_pixel()
    target = Target(1, torch.ones(20, 20))
    found = faithfulness(Pixel(), image, target, best)
    low, high = 1 / (1 + math.exp(5)), 1 / (1 + math.exp(-5))
    # Only the first of 20 steps has the pixel still there, or not yet.
    assert found.deletion == pytest.approx(low + (high - low) / 40, abs=1e-6)
    assert found.insertion == pytest.approx(high - (high - low) / 40, abs=2e-3)
    worst = faithfulness(Pixel(), image, target, -best)
    assert worst.deletion == pytest.approx(high - (high - low) / 40, abs=1e-6)


def test_shuffled_maps_are_the_same_for_the_same_seed() -> None:
    image, best = one_bright_pixel()
    target = Target(1, torch.ones(20, 20))
    one, again, *others = (
        faithfulness(Pixel(), image, target, best, seed=seed) for seed in (0, 0, 1, 2, 3)
    )
    assert one == again
    assert {each.deletion for each in others} == {one.deletion}
    assert len({each.shuffled_deletion for each in others}) > 1
    assert all(each.deletion < each.shuffled_deletion for each in others)


def test_areas_do_not_depend_on_the_batch() -> None:
    image, best = one_bright_pixel()
    target = Target(1, torch.ones(20, 20))
    one, other = (faithfulness(Pixel(), image, target, best, batch_size=b) for b in (1, 7))
    assert one == other


def test_energy_of_an_even_map_is_the_regions_area() -> None:
    region = np.zeros((4, 5), bool)
    region[1:3, :3] = True
    even = pointing(np.ones((4, 5), np.float32), region)
    assert even.energy == even.area == 0.3
    inside = pointing(region.astype(np.float32), region)
    assert (inside.energy, inside.hit) == (1, 1)
    outside = pointing((~region).astype(np.float32), region)
    assert (outside.energy, outside.hit) == (0, 0)


def test_pointing_is_undefined_for_an_empty_map_or_region() -> None:
    full, nothing = np.ones((2, 2), bool), np.zeros((2, 2), bool)
    for shown, region in ((nothing, full), (full, nothing)):
        found = pointing(shown.astype(np.float32), region)
        assert math.isnan(found.energy)
        assert math.isnan(found.hit)


def test_a_reinitialised_network_has_the_same_values_in_other_places() -> None:
    torch.manual_seed(0)
    network = create_model("med2d-segnet", widths=(4, 6, 8), depths=(1, 1), kernel=3).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    image = torch.randn(1, 3, 16, 16)
    fresh, again, other = (reinitialised(network, image, seed) for seed in (1, 1, 2))
    after = dict(fresh.named_parameters())
    for name, value in network.named_parameters():
        assert torch.equal(value.flatten().sort()[0], after[name].flatten().sort()[0])
    assert not torch.equal(after["stem.0.weight"], before["stem.0.weight"])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with torch.no_grad():
        assert torch.equal(fresh(image), again(image))
        assert not torch.equal(fresh(image), other(image))
    assert not any(module.training for module in fresh.modules())


def test_normalisations_of_a_reinitialised_network_fit_its_own_activations() -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
    norm.running_var.fill_(1e6)  # type: ignore[union-attr]
    image = torch.randn(1, 3, 16, 16)
    fresh = reinitialised(nn.Sequential(conv, norm).eval(), image, 0)
    with torch.no_grad():
        assert fresh(image).std() == pytest.approx(1, abs=0.1)


def test_rank_correlation_sees_order_only() -> None:
    values = np.random.default_rng(0).random((5, 6)).astype(np.float32)
    assert rank_correlation(values, values**3) == pytest.approx(1)
    assert rank_correlation(values, -values) == pytest.approx(-1)


def test_a_map_that_becomes_empty_has_changed_and_an_empty_one_cannot() -> None:
    values, flat = np.eye(3, dtype=np.float32), np.zeros((3, 3), np.float32)
    assert rank_correlation(values, flat) == 0
    assert math.isnan(rank_correlation(flat, values))


def test_structural_similarity_is_1_for_equal_maps_and_low_for_unrelated_ones() -> None:
    random = np.random.default_rng(0)
    one, other = random.random((2, 32, 32)).astype(np.float32)
    assert structural_similarity(one, one) == pytest.approx(1)
    assert structural_similarity(one, other) == pytest.approx(structural_similarity(other, one))
    assert structural_similarity(one, other) < 0.3
