from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medseg.errors import RecipeError
from medseg.losses.region import cross_entropy, dice_loss
from medseg.models import create_model
from medseg.networks.images.med2d_segnet import (
    AveragePoolGate,
    Med2DSegNet,
    MedBlock,
    SqueezeExcitation,
)

PRESETS: Mapping[str, dict[str, Any]] = {
    "A": {},
    "B": {"widths": (32, 32, 64, 128, 256), "depths": (3, 3, 2, 2), "kernel": 3},
    "C": {"widths": (24, 24, 32, 64, 256), "depths": (2, 2, 3, 3), "kernel": 3},
    "D": {"widths": (16, 16, 32, 64, 224), "depths": (1, 1, 2, 3), "gate": "se"},
    "E": {"widths": (16, 16, 64, 128, 124), "depths": (2, 2, 4, 2), "gate": "se"},
}
TINY: dict[str, Any] = {"widths": (4, 6, 8, 8, 12), "depths": (1, 2, 1, 1), "kernel": 3}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def on_meta(**options: Any) -> Med2DSegNet:
    """A network without memory for its weights."""
    with torch.device("meta"):
        return Med2DSegNet(**options)


def fill_with_waves(network: nn.Module) -> nn.Module:
    """Weights of a closed form, the same in every release of PyTorch and on every machine."""
    for index, (name, value) in enumerate(network.state_dict().items()):
        if not value.is_floating_point():
            continue
        wave = torch.sin(torch.arange(value.numel(), dtype=torch.float64) * 0.7 + index)
        if name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
            wave = 1 + 0.2 * wave
        elif value.ndim > 1:
            wave = wave * math.sqrt(2 / value[0].numel())
        value.copy_(wave.view(value.shape))
    return network.eval()


def wave_image(channels: int = 3, size: tuple[int, int] = (32, 40)) -> Tensor:
    number = channels * size[0] * size[1]
    return torch.sin(torch.arange(number, dtype=torch.float64) * 0.37).float().view(1, -1, *size)


@pytest.mark.parametrize(
    ("preset", "encoder", "decoder"),
    [
        ("A", 1_626_312, 442_729),
        ("B", 1_618_208, 451_105),
        ("C", 1_935_544, 133_561),
        ("D", 1_949_368, 119_313),
        ("E", 1_668_111, 404_561),
    ],
)
def test_presets_have_the_counted_parameters(preset: str, encoder: int, decoder: int) -> None:
    net = on_meta(**PRESETS[preset])
    assert count(net.stem) + count(net.stages) == encoder
    assert count(net.decoder) + count(net.head) == decoder
    assert count(net) == encoder + decoder


def test_the_default_has_the_counted_parameters_in_every_part() -> None:
    net = on_meta()
    assert count(net) == 2_069_041
    assert count(net.stem) == 696
    assert [count(stage) for stage in net.stages] == [16_592, 30_912, 340_352, 1_237_760]
    assert [count(stage.project) for stage in net.decoder] == [33_024, 8_320, 2_112, 816]
    assert [count(stage.refine) for stage in net.decoder] == [295_424, 73_984, 18_560, 10_464]
    assert count(net.head) == 25


def test_classes_and_channels_change_only_head_and_stem() -> None:
    assert count(on_meta(num_classes=9)) == 2_069_241
    assert count(on_meta(in_channels=1)) == 2_068_609


def closed_form_count(
    in_channels: int,
    num_classes: int,
    widths: tuple[int, ...],
    depths: tuple[int, ...],
    expansion: int,
    kernel: int,
    gate: str,
) -> int:
    """Parameters with batch norm, by the formulas of the network's description."""

    def block(i: int, o: int, projected: bool) -> int:
        m, hidden = expansion * i, max(8, i // 4)
        convolutions = i * m + m * kernel**2 + m * o
        norms = 2 * m + 2 * m + 2 * o
        gating = (m * hidden + hidden) + (hidden * m + m) if gate == "se" else 0
        return convolutions + norms + gating + (i * o + 2 * o if projected else 0)

    total = 9 * in_channels * widths[0] + 2 * widths[0]
    for before, width, depth in zip(widths, widths[1:], depths, strict=False):
        total += block(before, width, projected=True)
        total += (depth - 1) * block(width, width, projected=False)
    for deep, shallow in zip(widths[1:], widths, strict=False):
        total += deep * shallow + 2 * shallow
        total += 2 * (9 * shallow**2 + 2 * shallow)
    return total + widths[0] * num_classes + num_classes


@given(data=st.data(), stages=st.integers(1, 5), gate=st.sampled_from(["gap", "se", "none"]))
@settings(max_examples=40, deadline=None)
def test_the_parameter_count_has_a_closed_form(data: st.DataObject, stages: int, gate: str) -> None:
    config: dict[str, Any] = {
        "in_channels": data.draw(st.integers(1, 4)),
        "num_classes": data.draw(st.integers(1, 9)),
        "widths": tuple(data.draw(st.lists(st.integers(1, 64), min_size=stages + 1,
                                           max_size=stages + 1))),
        "depths": tuple(data.draw(st.lists(st.integers(1, 3), min_size=stages, max_size=stages))),
        "expansion": data.draw(st.integers(1, 8)),
        "kernel": data.draw(st.sampled_from([1, 3, 5, 7, 9])),
        "gate": gate,
    }  # fmt: skip
    assert count(on_meta(**config)) == closed_form_count(**config)


def test_encoder_maps_are_the_stem_and_exactly_a_half_to_a_sixteenth() -> None:
    net = Med2DSegNet(**TINY).eval()
    shapes = [tuple(f.shape) for f in net.forward_features(torch.zeros(1, 3, 64, 96))]
    assert shapes == [(1, w, 64 >> i, 96 >> i) for i, w in enumerate((4, 6, 8, 8, 12))]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("gate", ["gap", "se", "none"])
def test_a_block_whose_last_norm_is_zero_is_the_identity_bit_for_bit(
    gate: Any, training: bool
) -> None:
    block = MedBlock(8, 8, gate=gate).train(training)
    nn.init.zeros_(block.reduce[1].weight)
    nn.init.zeros_(block.reduce[1].bias)
    x = torch.randn(2, 8, 11, 13)
    assert torch.equal(block(x), x)


@given(height=st.integers(1, 19), width=st.integers(1, 19), kernel=st.sampled_from([1, 3, 7]))
@settings(max_examples=25, deadline=None)
def test_a_block_of_stride_two_halves_the_size_rounding_up(
    height: int, width: int, kernel: int
) -> None:
    block = MedBlock(4, 6, stride=2, kernel=kernel, expansion=2).eval()
    out = block(torch.randn(1, 4, height, width))
    assert out.shape == (1, 6, math.ceil(height / 2), math.ceil(width / 2))


def test_the_residual_path_of_a_stride_two_block_is_a_projected_average() -> None:
    block = MedBlock(4, 6, stride=2, norm="none").eval()
    for parameter in (*block.reduce.parameters(), block.shortcut[1][0].bias):
        nn.init.zeros_(parameter)
    x = torch.randn(1, 4, 8, 10)
    means = x.view(1, 4, 4, 2, 5, 2).mean((3, 5))
    expected = torch.einsum("oi,bihw->bohw", block.shortcut[1][0].weight[:, :, 0, 0], means)
    torch.testing.assert_close(block(x), expected)


def test_the_pooling_gate_halves_maps_of_mean_zero() -> None:
    half = torch.randn(2, 5, 4, 6)
    x = torch.cat([half, -half], dim=-1)
    assert torch.equal(AveragePoolGate()(x), 0.5 * x)


def test_the_pooling_gate_is_the_sigmoid_of_each_channels_mean() -> None:
    x = torch.randn(2, 5, 4, 6, dtype=torch.float64)
    expected = x / (1 + torch.exp(-x.mean((-2, -1), keepdim=True)))
    torch.testing.assert_close(AveragePoolGate()(x), expected)


@pytest.mark.parametrize("gate", [AveragePoolGate(), SqueezeExcitation(5, 8)])
def test_gates_commute_with_spatial_permutation(gate: nn.Module) -> None:
    x = torch.randn(2, 5, 4, 6, dtype=torch.float64)
    gate.double()
    order = torch.randperm(24)

    def permute(y: Tensor) -> Tensor:
        return y.flatten(-2)[..., order].view_as(y)

    torch.testing.assert_close(gate(permute(x)), permute(gate(x)))


FAST: dict[str, Any] = {**TINY, "stem_stride": 2}


def test_a_stem_of_stride_two_takes_the_place_of_the_first_halving() -> None:
    net = Med2DSegNet(**FAST).eval()
    shapes = [tuple(f.shape) for f in net.forward_features(torch.zeros(1, 3, 64, 96))]
    assert shapes == [(1, w, 32 >> i, 48 >> i) for i, w in enumerate((6, 8, 8, 12))]
    assert len(net.decoder) == 3
    assert net.head.out_channels == 4


def test_a_stem_of_stride_two_gives_each_pixel_of_a_square_a_logit_of_its_own() -> None:
    net = Med2DSegNet(3, 2, **FAST).eval()
    nn.init.zeros_(net.head.weight)
    net.head.bias.data = torch.arange(8.0)
    logits = net(torch.zeros(1, 3, 5, 6))
    for k, first in ((0, 0), (1, 4)):
        square = torch.tensor([[0.0, 1.0], [2.0, 3.0]]) + first
        assert torch.equal(logits[0, k], square.repeat(3, 3)[:5])


def test_kernel_and_expansion_may_be_given_for_each_stage() -> None:
    net = on_meta(**{**TINY, "kernel": (3, 5, 7, 1), "expansion": (1, 2, 3, 4)})
    first = [stage[0] for stage in net.stages]
    assert [block.aggregate[0].kernel_size[0] for block in first] == [3, 5, 7, 1]
    assert [block.expand[0].out_channels for block in first] == [4, 12, 24, 32]


def test_one_number_for_every_stage_is_the_same_as_saying_it_of_each() -> None:
    once = on_meta(**{**TINY, "kernel": 5, "expansion": 2})
    each = on_meta(**{**TINY, "kernel": (5,) * 4, "expansion": (2,) * 4})
    assert str(once) == str(each)


def test_a_depthwise_decoder_has_a_depthwise_and_a_pointwise_convolution_a_stage() -> None:
    net = on_meta(**TINY, decoder="depthwise")
    convolutions = [
        [(m.kernel_size, m.groups) for m in stage.refine.modules() if isinstance(m, nn.Conv2d)]
        for stage in net.decoder
    ]
    assert convolutions == [[((3, 3), width), ((1, 1), 1)] for width in (8, 8, 6, 4)]


@pytest.mark.parametrize("kernel", [1, 5, 9])
def test_kernel_sets_the_depthwise_convolutions_alone(kernel: int) -> None:
    net = on_meta(**{**TINY, "kernel": kernel})
    depthwise = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert len(depthwise) == 5
    assert all(m.kernel_size == (kernel, kernel) and m.groups == m.in_channels for m in depthwise)
    assert net.stem[0].kernel_size == (3, 3)


def test_expansion_sets_the_channels_inside_the_blocks_alone() -> None:
    net = on_meta(**TINY, expansion=3)
    blocks = [m for m in net.modules() if isinstance(m, MedBlock)]
    assert all(b.aggregate[0].in_channels == 3 * b.expand[0].in_channels for b in blocks)
    outputs = [b.reduce[0].out_channels for b in blocks]
    assert outputs == [6, 8, 8, 8, 12]


@pytest.mark.parametrize(
    ("norm", "kind"),
    [
        ("batch", nn.BatchNorm2d),
        ("instance", nn.InstanceNorm2d),
        ("group", nn.GroupNorm),
        ("none", nn.Identity),
    ],
)
def test_norm_sets_every_normalisation(norm: str, kind: type[nn.Module]) -> None:
    net = on_meta(**TINY, norm=norm)
    kinds = (nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm)
    found = [m for m in net.modules() if isinstance(m, kinds)]
    assert bool(found) == (norm != "none")
    assert all(isinstance(m, kind) for m in found)


@pytest.mark.parametrize(
    ("activation", "kind"),
    [
        ("relu", nn.ReLU),
        ("relu6", nn.ReLU6),
        ("leaky_relu", nn.LeakyReLU),
        ("gelu", nn.GELU),
        ("silu", nn.SiLU),
    ],
)
def test_activation_sets_every_activation(activation: str, kind: type[nn.Module]) -> None:
    kinds = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU)
    found = [type(m) for m in on_meta(**TINY, activation=activation).modules()
             if isinstance(m, kinds)]  # fmt: skip
    # Stem; two in each of five blocks; one and two in each of four decoder stages.
    assert found == [kind] * (1 + 2 * 5 + 3 * 4)


def test_the_gate_without_parameters_changes_the_logits() -> None:
    gated, plain = Med2DSegNet(**TINY).eval(), Med2DSegNet(**TINY, gate="none").eval()
    plain.load_state_dict(gated.state_dict())
    x = torch.randn(1, 3, 32, 32)
    assert not torch.allclose(gated(x), plain(x), atol=1e-3)


def test_an_allowed_value_is_named_where_a_choice_is_wrong() -> None:
    with pytest.raises(RecipeError, match=r"network\.gate.*'gap', 'se' or 'none'"):
        create_model("med2d-segnet", gate="gapp")


def test_known_weights_give_known_logits() -> None:
    net = fill_with_waves(Med2DSegNet(3, 2, **TINY))
    with torch.inference_mode():
        logits = net(wave_image())
    found = [logits.mean().item(), logits.std().item(), *logits[0, :, 7, 11].tolist()]
    golden = [-0.9533787, 5.8134413, -7.5286312, 5.5393286]
    assert found == pytest.approx(golden, rel=1e-4)


def ellipses(number: int, size: int = 64) -> tuple[Tensor, Tensor]:
    """Bright ellipses on a dark noisy ground, and their masks."""
    random = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    masks = []
    for _ in range(number):
        cy, cx = (torch.rand(2, generator=random) * 0.5 + 0.25) * size
        ry, rx = (torch.rand(2, generator=random) * 0.2 + 0.1) * size
        masks.append(((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1)
    mask = torch.stack(masks)
    noise = torch.randn(number, 1, size, size, generator=random)
    return mask[:, None] * 1.0 + 0.7 * noise, mask.to(torch.uint8)


def mean_dice(predicted: Tensor, truth: Tensor) -> float:
    overlap = (predicted * truth).sum((-2, -1))
    return (2 * overlap / (predicted.sum((-2, -1)) + truth.sum((-2, -1)))).mean().item()


def test_it_learns_to_segment_noisy_ellipses() -> None:
    torch.manual_seed(0)
    images, masks = ellipses(64)
    net = Med2DSegNet(1, 1, widths=(4, 8, 12, 16, 24), depths=(1, 1, 1, 1), expansion=2, kernel=5)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for step in range(100):
        part = torch.arange(4) + 4 * (step % 12)
        logits = net(images[part])
        loss = cross_entropy(logits, masks[part]) + dice_loss(logits, masks[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    unseen = slice(48, 64)
    with torch.inference_mode():
        predicted = net.eval()(images[unseen])[:, 0] >= 0
    dice = mean_dice(predicted, masks[unseen])
    assert dice > 0.9
    assert dice > mean_dice(torch.ones_like(predicted), masks[unseen]) + 0.2
    assert dice > mean_dice(images[unseen][:, 0] > 0.5, masks[unseen]) + 0.2


@pytest.mark.parametrize(("stem_stride", "sides"), [(1, 3), (2, 2)])
def test_side_heads_answer_at_the_images_size_and_leave_the_rest_as_it_was(
    stem_stride: int, sides: int
) -> None:
    torch.manual_seed(0)
    plain = Med2DSegNet(num_classes=3, stem_stride=stem_stride).eval()
    torch.manual_seed(0)
    taught = Med2DSegNet(num_classes=3, stem_stride=stem_stride, side_heads=True).eval()
    image = torch.randn(1, 3, 33, 47)
    outputs = taught.forward_all(image)
    assert [tuple(each.shape) for each in outputs] == [(1, 3, 33, 47)] * (1 + sides)
    assert torch.equal(outputs[0], plain(image))
    assert torch.equal(taught(image), plain(image))
    taught.drop_side_heads()
    assert taught.state_dict().keys() == plain.state_dict().keys()
    assert plain.forward_all(image)[1:] == []
