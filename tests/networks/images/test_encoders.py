from __future__ import annotations

import itertools
import math
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medseg import systems
from medseg.benchmark.efficiency import count_macs
from medseg.errors import RecipeError
from medseg.models import create_model, network_options
from medseg.networks.images.encoders import (
    BLOCKS,
    BUDGET,
    AxialAttention,
    AxialBlock,
    BasicBlock,
    Block,
    ConvNeXtBlock,
    EncoderSegNet,
    InvertedResidual,
    PlainBlock,
    widths_for,
)
from medseg.networks.images.med2d_segnet import Med2DSegNet
from medseg.nn.blocks import ConvNormAct, count_parameters
from medseg.nn.channel_norm import ChannelNorm

EVERY: tuple[Block, ...] = get_args(Block)
TINY: dict[str, Any] = {"widths": (8, 8, 16, 16, 16), "depths": (1, 2, 1, 1)}


def on_meta(make: Any, *args: Any, **options: Any) -> nn.Module:
    """A module without memory for its weights."""
    with torch.device("meta"):
        module: nn.Module = make(*args, **options)
    return module


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Norms, scales and biases that are not the neutral ones of a fresh network."""
    draw = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if value.is_floating_point() and value.ndim == 1:
            value.uniform_(0.5, 1.5, generator=draw)
        elif name.endswith("relative"):
            value.normal_(generator=draw)
    return module


@pytest.mark.parametrize("block", EVERY)
def test_every_block_has_a_system_of_its_own(block: Block) -> None:
    name = "med2d-segnet" if block == "med" else f"encoder-{block}"
    card = systems.load_card(name)
    assert card.options.get("block", "med") == block
    assert tuple(network_options(name, {})["widths"]) == widths_for(block)


@pytest.mark.parametrize(
    ("block", "widths", "parameters"),
    [
        ("med", (24, 32, 64, 128, 256), 2_069_041),
        ("plain", (16, 32, 56, 104, 208), 2_073_953),
        ("residual", (16, 32, 48, 104, 208), 2_069_985),
        ("mobilenetv2", (32, 32, 72, 136, 264), 2_075_761),
        ("convnext", (24, 32, 64, 128, 264), 2_093_913),
        ("axial", (40, 48, 96, 208, 408), 2_068_381),
    ],
)
def test_networks_have_the_counted_parameters_within_2_percent_of_med2d_segnet(
    block: Block, widths: tuple[int, ...], parameters: int
) -> None:
    assert widths_for(block) == widths
    assert count_parameters(on_meta(EncoderSegNet, block=block, widths=widths)) == parameters
    assert parameters == pytest.approx(BUDGET, rel=0.02)


@settings(deadline=None, max_examples=10)
@given(
    block=st.sampled_from([b for b in EVERY if b not in ("med", "axial")]),
    budget=st.integers(500_000, 3_000_000),
)
def test_any_budget_is_met_with_proportional_multiples_of_8(block: Block, budget: int) -> None:
    widths = widths_for(block, budget)
    assert count_parameters(on_meta(EncoderSegNet, block=block, widths=widths)) == pytest.approx(
        budget, rel=0.05
    )
    assert all(width % 8 == 0 for width in widths)
    scale = widths[-1] / 256
    assert all(abs(w - scale * b) <= 8 for w, b in zip(widths, (24, 32, 64, 128, 256), strict=True))


def test_a_budget_that_no_network_can_meet_is_refused() -> None:
    with pytest.raises(ValueError, match="less than 12,401 parameters"):
        widths_for("plain", 1_000)


def test_with_med_blocks_it_is_med2d_segnet() -> None:
    theirs = randomise(Med2DSegNet(**TINY)).eval()
    ours = EncoderSegNet(block="med", **TINY).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 33, 40)
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("block", EVERY)
def test_stem_decoder_and_head_are_those_of_med2d_segnet(block: Block) -> None:
    ours, theirs = on_meta(EncoderSegNet, block=block, **TINY), on_meta(Med2DSegNet, **TINY)
    for part in ("stem", "decoder", "head"):
        assert repr(getattr(ours, part)) == repr(getattr(theirs, part))


@pytest.mark.parametrize("block", EVERY)
def test_encoder_maps_are_the_stem_and_exactly_a_half_to_a_sixteenth(block: Block) -> None:
    net = EncoderSegNet(block=block, **TINY).eval()
    shapes = [tuple(f.shape) for f in net.forward_features(torch.zeros(1, 3, 32, 64))]
    assert shapes == [(1, w, 32 >> i, 64 >> i) for i, w in enumerate(TINY["widths"])]


@pytest.mark.parametrize("block", EVERY)
@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(16, 16, 1), (16, 32, 1), (16, 32, 2)])
def test_a_block_changes_width_and_halves_the_size_rounding_up(
    block: Block, inputs: int, outputs: int, stride: int
) -> None:
    made = BLOCKS[block](inputs, outputs, stride).eval()
    out = made(torch.randn(2, inputs, 7, 10))
    assert out.shape == (2, outputs, math.ceil(7 / stride), math.ceil(10 / stride))


@pytest.mark.parametrize("block", EVERY)
def test_the_same_seed_gives_the_same_gradients_bit_for_bit(block: Block) -> None:
    def gradients() -> list[Tensor]:
        torch.manual_seed(1)
        net = EncoderSegNet(block=block, **TINY)
        net(torch.randn(4, 3, 32, 48)).square().sum().backward()
        return [p.grad for p in net.parameters() if p.grad is not None]

    assert all(torch.equal(a, b) for a, b in zip(gradients(), gradients(), strict=True))


def test_an_unknown_block_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"network\.block.*'residuall'.*'mobilenetv2'"):
        create_model("encoder-plain", block="residuall")


@pytest.mark.parametrize("make", [BasicBlock, InvertedResidual, ConvNeXtBlock, AxialBlock])
def test_a_residual_block_whose_body_gives_zero_passes_its_input_on(make: Any) -> None:
    block = make(16, 16).eval()
    last = {
        BasicBlock: lambda: block.body[1][1],
        InvertedResidual: lambda: block.body[2][1],
        ConvNeXtBlock: lambda: block.body[4],
        AxialBlock: lambda: block.expand[1],
    }[make]()
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    x = torch.rand(2, 16, 6, 5)
    assert torch.equal(block(x), x)


def test_two_plain_blocks_hold_what_a_double_convolution_holds() -> None:
    assert count_parameters(PlainBlock(8, 16)) == 9 * 8 * 16 + 32 + 9 * 16 * 16 + 32


def resnet_18() -> nn.Sequential:
    net = nn.Sequential(ConvNormAct(3, 64, 7, stride=2), nn.MaxPool2d(3, 2, 1))
    widths = (64, 64, 128, 256, 512)
    for before, width in itertools.pairwise(widths):
        net.extend([BasicBlock(before, width, 1 if width == 64 else 2), BasicBlock(width, width)])
    return net.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000)])


def mobilenetv2() -> nn.Sequential:
    # Table 2 of the paper: channels, repeats and stride after the first block, which has t = 1.
    table = [(24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1)]
    net = nn.Sequential(ConvNormAct(3, 32, stride=2))
    net.extend([ConvNormAct(32, 32, groups=32), ConvNormAct(32, 16, 1)])
    before = 16
    for width, repeats, stride in table:
        for i in range(repeats):
            net.append(InvertedResidual(before, width, stride if i == 0 else 1))
            before = width
    net.append(ConvNormAct(320, 1280, 1))
    return net.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)])


def convnext_t() -> nn.Sequential:
    net = nn.Sequential(nn.Conv2d(3, 96, 4, 4), ChannelNorm(96))
    widths = (96, 96, 192, 384, 768)
    for before, width, depth in zip(widths, widths[1:], (3, 3, 9, 3), strict=False):
        net.append(ConvNeXtBlock(before, width, 1 if before == width else 2))
        net.extend([ConvNeXtBlock(width, width) for _ in range(depth - 1)])
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(768)]
    return net.extend([*pooled, nn.Linear(768, 1000)])


# As torchvision lists them: parameters, and billions of multiply-accumulates at 224 pixels.
@pytest.mark.parametrize(
    ("make", "parameters", "gigamacs"),
    [
        (resnet_18, 11_689_512, 1.814),
        (mobilenetv2, 3_504_872, 0.301),
        (convnext_t, 28_589_128, 4.456),
    ],
)
def test_classifiers_made_of_the_blocks_have_their_published_size(
    make: Any, parameters: int, gigamacs: float
) -> None:
    net = on_meta(make)
    assert count_parameters(net) == parameters
    macs = count_macs(net, torch.empty(1, 3, 224, 224, device="meta"))
    assert macs / 1e9 == pytest.approx(gigamacs, abs=0.0005)


def test_a_fresh_convnext_block_changes_its_input_by_little() -> None:
    x = torch.randn(1, 16, 8, 8)
    change = (ConvNeXtBlock(16, 16)(x) - x).abs().max()
    assert 0 < change < 1e-4


def loop_attention(layer: AxialAttention, x: Tensor) -> Tensor:
    """The paper's sums, pixel by pixel, for one image of one column: (C, H) -> (C, H)."""

    def normed(norm: Any, value: Tensor, channel: int | slice) -> Tensor:
        scale = norm.weight[channel] / (norm.running_var[channel] + norm.eps).sqrt()
        out: Tensor = (value - norm.running_mean[channel]) * scale + norm.bias[channel]
        return out

    length = x.shape[1]
    weight = layer.project[0].weight[:, :, 0, 0]
    qkv = torch.stack(
        [normed(layer.project[1], weight @ x[:, i], slice(None)) for i in range(length)]
    )
    out = torch.zeros_like(x)
    for h in range(layer.heads):
        own = qkv[:, 16 * h : 16 * h + 16]
        query, key, value = own[:, :4], own[:, 4:8], own[:, 8:]
        for i in range(length):
            scores, moved = [], []
            for j in range(length):
                far = max(-layer.span + 1, min(layer.span - 1, j - i)) + layer.span - 1
                r = layer.relative[:, far]
                terms = (query[i] @ key[j], query[i] @ r[:4], key[j] @ r[4:8])
                norms = layer.similarity_norms
                scores.append(sum(normed(n, t, h) for n, t in zip(norms, terms, strict=True)))
                moved.append(r[8:])
            weights = torch.stack(scores).softmax(0)
            part = slice(8 * h, 8 * h + 8)
            out[part, i] = normed(layer.output_norms[0], weights @ value, part) + normed(
                layer.output_norms[1], weights @ torch.stack(moved), part
            )
    return out


@pytest.mark.parametrize("span", [9, 3])
@torch.no_grad()
def test_axial_attention_agrees_with_loops_over_pixels(span: int) -> None:
    layer = AxialAttention(16, span=span).double().eval()
    randomise(layer)
    x = torch.randn(2, 16, 7, 3, dtype=torch.float64)
    expected = torch.stack(
        [torch.stack([loop_attention(layer, x[b, :, :, w]) for w in range(3)], -1) for b in (0, 1)]
    )
    torch.testing.assert_close(layer(x), expected, atol=1e-10, rtol=1e-10)


@torch.no_grad()
def test_axial_attention_sees_its_own_column_and_no_other() -> None:
    layer = AxialAttention(8).eval()
    x = torch.randn(1, 8, 12, 6)
    changed = x.clone()
    changed[:, :, 3, 2] += 1
    differs = (layer(x) != layer(changed)).any(1)[0]
    assert differs[:, 2].all()
    assert not differs[:, [0, 1, 3, 4, 5]].any()


@torch.no_grad()
def test_an_axial_block_joins_any_two_pixels() -> None:
    block = AxialBlock(16, 16).eval()
    x = torch.rand(1, 16, 9, 11)
    changed = x.clone()
    changed[:, :, 8, 10] += 1
    assert (block(x) != block(changed)).any(1)[0].float().mean() > 0.9
