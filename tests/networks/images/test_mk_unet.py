from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from medseg import systems
from medseg.benchmark.efficiency import count_macs
from medseg.networks.images.mk_unet import (
    ChannelAttention,
    GroupedAttentionGate,
    MKUNet,
    MultiKernelConvolution,
    MultiKernelResidual,
    SpatialAttention,
)
from medseg.nn.blocks import count_parameters

from .checks import (
    fill_with_waves,
    golden,
    on_meta,
)

TINY: dict[str, Any] = {"widths": (4, 6, 8, 10, 12)}


@pytest.mark.parametrize(
    ("system", "parameters", "gigamacs"),
    [
        ("mk-unet-t", 27_384, 0.050),
        ("mk-unet-s", 93_050, 0.104),
        ("mk-unet", 315_566, 0.278),
        ("mk-unet-m", 1_150_166, 0.884),
        ("mk-unet-l", 3_758_118, 3.067),
    ],
)
def test_it_has_the_parameters_and_the_arithmetic_of_the_official_code(
    system: str, parameters: int, gigamacs: float
) -> None:
    net = on_meta(MKUNet, **systems.load_card(system).options)
    assert count_parameters(net) == parameters
    macs = count_macs(net, torch.empty(1, 3, 256, 256, device="meta"))
    assert macs / 1e9 == pytest.approx(gigamacs, rel=0.02)


def test_classes_change_only_the_heads() -> None:
    assert count_parameters(on_meta(MKUNet, 3, 9)) == 315_566 + 8 * (17 + 17 + 33 + 65)


@given(
    inputs=st.integers(1, 30),
    outputs=st.integers(1, 30),
    kernels=st.lists(st.sampled_from([1, 3, 5, 7]), min_size=1, max_size=4),
    expansion=st.integers(1, 4),
)
def test_a_blocks_parameters_have_a_closed_form(
    inputs: int, outputs: int, kernels: list[int], expansion: int
) -> None:
    middle = expansion * inputs
    convolutions = sum(middle * k * k + 2 * middle for k in kernels)
    ends = inputs * middle + 2 * middle + middle * outputs + 2 * outputs
    shortcut = 0 if inputs == outputs else inputs * outputs
    block = on_meta(MultiKernelResidual, inputs, outputs, kernels, expansion)
    assert count_parameters(block) == ends + convolutions + shortcut


def test_encoder_maps_halve_five_times() -> None:
    features = MKUNet(**TINY).eval().forward_features(torch.zeros(1, 3, 64, 96))
    assert [tuple(f.shape) for f in features] == [
        (1, width, 32 >> i, 48 >> i) for i, width in enumerate(TINY["widths"])
    ]


@torch.no_grad()
@pytest.mark.parametrize("classes", [1, 3])
def test_all_outputs_are_the_logits_and_three_more_of_the_same_size(classes: int) -> None:
    net = MKUNet(3, classes, **TINY).eval()
    x = torch.randn(2, 3, 50, 41)
    outputs = net.forward_all(x)
    assert [tuple(o.shape) for o in outputs] == [(2, classes, 50, 41)] * 4
    assert torch.equal(outputs[0], net(x))


@torch.no_grad()
@pytest.mark.parametrize(("stage", "reached"), [(4, 1), (3, 2), (2, 3), (1, 4)])
def test_the_sides_run_from_shallow_to_deep(stage: int, reached: int) -> None:
    net = fill_with_waves(MKUNet(**TINY))
    x = torch.randn(1, 3, 64, 64)
    before = net.forward_all(x)
    net.get_parameter(f"decoder.{stage}.body.2.1.bias").add_(1)
    changed = [not torch.equal(a, b) for a, b in zip(before, net.forward_all(x), strict=True)]
    assert changed == [True] * reached + [False] * (4 - reached)


@torch.no_grad()
def test_a_multi_kernel_convolution_is_the_shuffled_sum_of_its_branches() -> None:
    block = fill_with_waves(MultiKernelConvolution(6, (1, 3, 5), groups=2))
    x = torch.randn(2, 6, 7, 8)
    total = sum(branch(x) for branch in block.branches)
    # Two groups 0 1 2 and 3 4 5 are dealt out in turn.
    torch.testing.assert_close(block(x), total[:, [0, 3, 1, 4, 2, 5]])


@torch.no_grad()
@pytest.mark.parametrize(("kernels", "reach"), [((1,), 0), ((1, 3), 1), ((5, 3, 1), 2)])
def test_a_block_sees_the_square_of_its_largest_kernel(
    kernels: tuple[int, ...], reach: int
) -> None:
    block = fill_with_waves(MultiKernelResidual(4, 6, kernels, 2)).double()
    norms = [layer for layer in block.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms[:-1]:  # amid the range where ReLU6 changes nothing
        norm.weight.mul_(0.1)
        norm.bias.fill_(3)
    x = torch.randn(1, 4, 15, 15, dtype=torch.float64)
    changed = x.clone()
    changed[0, :, 7, 7] += 1
    expected = torch.zeros(15, 15, dtype=torch.bool)
    expected[7 - reach : 8 + reach, 7 - reach : 8 + reach] = True
    assert torch.equal((block(x) != block(changed)).any(1)[0], expected)


@torch.no_grad()
@pytest.mark.parametrize("outputs", [4, 6])
def test_a_block_whose_last_norm_is_zero_passes_its_input_on(outputs: int) -> None:
    block = MultiKernelResidual(4, outputs, (1, 3), 2).eval()
    nn.init.zeros_(block.get_parameter("body.2.1.weight"))
    x = torch.randn(2, 4, 5, 6)
    assert torch.equal(block(x), x if outputs == 4 else block.shortcut(x))


@torch.no_grad()
def test_channel_attention_is_one_factor_a_channel_of_its_means_and_maxima() -> None:
    block = ChannelAttention(8, 4)
    x = torch.rand(2, 8, 5, 7) + 1
    first, _, second = block.layers
    weights = [layer.weight[..., 0, 0] for layer in (first, second)]
    logits = sum(
        torch.relu(summary @ weights[0].T) @ weights[1].T
        for summary in (x.mean((2, 3)), x.flatten(2).max(2).values)
    )
    torch.testing.assert_close(block(x), x * torch.sigmoid(logits)[..., None, None])


def test_channel_attention_of_few_channels_has_one_channel_in_the_middle() -> None:
    assert count_parameters(ChannelAttention(8, 16)) == 2 * 8


@torch.no_grad()
def test_spatial_attention_is_one_factor_a_pixel() -> None:
    x = torch.rand(2, 5, 9, 8) + 1
    ratio = SpatialAttention()(x) / x
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    assert ratio.std() > 0


@torch.no_grad()
def test_a_gate_is_one_factor_a_pixel_of_the_skip_that_both_maps_decide() -> None:
    gate = fill_with_waves(GroupedAttentionGate(6))
    x, other = torch.randn(2, 1, 6, 5, 5).unbind()
    skip = torch.rand(1, 6, 5, 5) + 1
    ratio = gate(x, skip) / skip
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    assert not torch.allclose(gate(other, skip) / skip, ratio)
    assert not torch.allclose(gate(x, 2 * skip) / (2 * skip), ratio)


@torch.no_grad()
def test_a_closed_gate_keeps_the_skip_out() -> None:
    net = fill_with_waves(MKUNet(**TINY))
    for gate in net.gates:
        gate.weigh[1].bias.fill_(-1e4)
    *skips, deepest = net.forward_features(torch.randn(1, 3, 64, 64))
    features = [torch.randn_like(skip) for skip in skips]
    net.forward_features = lambda image: [*features, deepest]  # type: ignore[method-assign]
    image = torch.zeros(1, 3, 64, 64)
    first = net(image)
    features = [torch.randn_like(skip) for skip in skips]
    assert torch.equal(net(image), first)


@torch.no_grad()
def test_fresh_convolutions_of_the_blocks_are_those_of_the_official_code() -> None:
    net = MKUNet()
    spread = net.get_parameter("decoder.0.body.2.0.weight").std().item()
    assert spread == pytest.approx(0.02, rel=0.05)
    assert not net.get_parameter("gates.0.of_skip.0.bias").any()


def test_known_weights_give_known_logits() -> None:
    expected = [0.38486093, 0.07519347, 0.38077724, 0.32252496]
    assert golden(MKUNet(**TINY)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_two_processes_train_it_though_its_side_heads_have_no_gradient(
    photos: Path, tmp_path: Path
) -> None:
    options = "network.widths=[4,6,8,10,12]"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone",
                "--nproc_per_node", "2", "-m", "medseg", "train", str(photos)]  # fmt: skip
    arguments = ["--system", "mk-unet", "--set", options, "--device", "cpu", "--image-size", "32",
                 "--epochs", "1", "--batch-size", "4", "-o", str(tmp_path / "run")]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, *arguments], check=False, env=environment, capture_output=True, timeout=240
    )
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "run" / "model.medseg").is_file()
