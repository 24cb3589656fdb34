from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medseg.errors import MedsegError
from medseg.explain.evidence import (
    Method,
    check_method,
    find_evidence,
    grad_cam_plus_plus,
    integrated_gradients,
    occlusion,
    resized,
    seg_grad_cam,
    shown,
)
from medseg.explain.target import Target
from medseg.models import create_model


class Linear(nn.Module):
    """Two 1x1 convolutions: every map and gradient can be written down."""

    def __init__(self, middle: list[float], head: list[float]) -> None:
        super().__init__()
        self.middle = nn.Conv2d(1, len(middle), 1, bias=False)
        self.head = nn.Conv2d(len(head), 1, 1, bias=False)
        with torch.no_grad():
            self.middle.weight.copy_(torch.tensor(middle)[:, None, None, None])
            self.head.weight.copy_(torch.tensor(head)[None, :, None, None])

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.head(self.middle(image))
        return out


def image(size: int = 4, channels: int = 1) -> Tensor:
    return torch.randn(1, channels, size, size, generator=torch.Generator().manual_seed(0))


def corner(size: int = 4, index: int = 1) -> Target:
    weights = torch.zeros(size, size)
    weights[: size // 2, : size // 2] = 1
    return Target(index, weights)


def small_network(channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return create_model(
        "med2d-segnet", in_channels=channels, widths=(4, 6, 8), depths=(1, 1), kernel=3
    ).eval()


def test_seg_grad_cam_weighs_channels_by_the_mean_gradient_over_the_map() -> None:
    # The gradient is the head's weight inside the region, a quarter of the image, and 0 outside.
    x = image()
    found = seg_grad_cam(Linear([1, 2], [3, -1]), x, corner(), "middle")
    assert torch.allclose(found, (3 * 1 - 1 * 2) / 4 * x[0, 0])


def test_grad_cam_plus_plus_has_its_closed_form() -> None:
    x = image().abs()
    found = grad_cam_plus_plus(Linear([1, 2], [3, -1]), x, corner(), "middle")
    # Only the first channel's gradient, 3 at 4 pixels, is positive.
    weight = 4 * 3 * (3**2 / (2 * 3**2 + x.sum() * 3**3))
    assert torch.allclose(found, weight * x[0, 0], rtol=1e-5)


def test_grad_cam_plus_plus_ignores_channels_that_are_negative_everywhere() -> None:
    x = image().abs() + 1
    one, other = (
        grad_cam_plus_plus(Linear(middle, [3, 5]), x, corner(), "middle")
        for middle in ([1, 0], [1, -2])
    )
    assert torch.equal(one, other)
    assert one.min() > 0


@pytest.mark.parametrize("cam", [seg_grad_cam, grad_cam_plus_plus])
def test_a_layer_followed_by_work_in_place_is_explained_before_it(cam: object) -> None:
    torch.manual_seed(0)
    first = nn.Conv2d(1, 3, 3, padding=1)
    network = nn.Sequential(first, nn.ReLU(inplace=True), nn.Conv2d(3, 1, 1))
    twin = nn.Sequential(first, nn.ReLU(), network[2])
    assert callable(cam)
    one, other = (cam(each, image(), corner(), "0") for each in (network, twin))
    assert torch.equal(one, other)
    assert one.abs().sum() > 0


def test_a_layer_that_the_logits_do_not_depend_on_has_an_empty_map() -> None:
    class Idle(Linear):
        def forward(self, image: Tensor) -> Tensor:
            self.middle(image)
            return image * self.head.weight.sum()

    assert not seg_grad_cam(Idle([1, 2], [3, -1]), image(), corner(), "middle").any()


def test_integrated_gradients_sum_to_the_change_of_the_target() -> None:
    network, x = small_network(), image(32, 3)
    target = corner(32)
    values, missed = integrated_gradients(network, x, target, 128, 8)
    with torch.no_grad():
        change = float(target.logit(network(x)) - target.logit(network(torch.zeros_like(x))))
    assert float(values.sum()) == pytest.approx(change, rel=0.01)
    assert missed == pytest.approx(abs(float(values.sum()) / change - 1), abs=1e-4)


def test_integrated_gradients_of_a_linear_network_are_exact_in_one_step() -> None:
    x = image()
    values, missed = integrated_gradients(Linear([1, 2], [3, -1]), x, corner(), 1)
    assert torch.allclose(values, corner().weights * x[0, 0], atol=1e-6)
    assert missed < 1e-5


def test_integrated_gradients_of_a_constant_network_miss_nothing_that_can_be_named() -> None:
    values, missed = integrated_gradients(Linear([0], [0]), image(), corner(), 2)
    assert not values.any()
    assert math.isnan(missed)


def test_occlusion_finds_where_the_target_is_made() -> None:
    x = torch.ones(1, 1, 8, 8)
    falls = occlusion(Linear([1], [1]), x, corner(8), 4)
    assert falls.shape == (4, 4)
    # A patch in the corner reaches three pixels far; one in the middle four, clipped by the region.
    assert falls[0, 0] == 9
    assert falls[1, 1] == 9
    assert not falls[3].any()
    assert not falls[:, 3].any()


@pytest.mark.parametrize("method", get_args(Method))
def test_batches_do_not_change_a_map(method: Method) -> None:
    network, x = small_network(), image(16, 3)
    layer = "stages.0" if "cam" in method else None
    steps = None if "cam" in method else 5
    one, other = (
        find_evidence(
            network, x, corner(16), method=method, layer=layer, steps=steps, batch_size=size
        ).values
        for size in (1, 4)
    )
    assert np.allclose(one, other, atol=1e-4 * np.abs(one).max())
    assert np.abs(one).max() > 0


@pytest.mark.parametrize("method", ["seg-grad-cam", "integrated-gradients", "occlusion"])
def test_background_of_a_binary_network_has_the_opposite_evidence(method: Method) -> None:
    x = image()
    layer = "middle" if "cam" in method else None
    steps = None if "cam" in method else 4
    foreground, background = (
        find_evidence(
            Linear([1, 2], [3, -1]), x, corner(index=index), method=method, layer=layer, steps=steps
        ).values
        for index in (1, 0)
    )
    assert np.allclose(foreground, -background)


def test_what_is_shown_is_the_positive_part_from_0_to_1() -> None:
    values = np.array([[-3, 0], [1, 4]], np.float32)
    assert shown(values).tolist() == [[0, 0], [0.25, 1]]
    assert not shown(-np.abs(values)).any()
    assert not shown(np.full((2, 2), np.nan, np.float32)).any()


def test_a_constant_map_stays_constant_on_another_grid() -> None:
    flat = np.full((4, 4), 2, np.float32)
    for size in ((9, 5), (2, 3), (1, 1)):
        assert np.allclose(resized(flat, size), np.full(size, 2))


def test_an_unknown_method_is_answered_with_the_nearest() -> None:
    with pytest.raises(MedsegError, match=r"--method grad-cam: .* Did you mean"):
        check_method("grad-cam")
