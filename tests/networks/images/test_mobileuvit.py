from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg import systems
from medseg.benchmark.efficiency import count_macs
from medseg.networks.images.mobileuvit import (
    ConvUtrBlock,
    LocalAggregation,
    MobileUViT,
    SparseAttention,
    TransformerBlock,
)
from medseg.nn.blocks import count_parameters

from .checks import (
    golden,
    on_meta,
)

TINY: dict[str, Any] = {
    "widths": (4, 6, 8, 12),
    "depths": (1, 2, 1, 2, 1),
    "kernels": (3, 5, 3),
    "heads": 2,
}


@pytest.mark.parametrize(
    ("system", "parameters", "gigamacs"),
    [("mobileuvit", 1_390_305, 3.246), ("mobileuvit-l", 6_209_217, 12.444)],
)
def test_it_has_the_parameters_and_the_arithmetic_of_the_authors_code(
    system: str, parameters: int, gigamacs: float
) -> None:
    net = on_meta(MobileUViT, **systems.load_card(system).options)
    assert count_parameters(net) == parameters
    macs = count_macs(net, torch.empty(1, 3, 256, 256, device="meta"))
    assert macs / 1e9 == pytest.approx(gigamacs, rel=0.002)


def test_classes_and_channels_change_only_head_and_stem() -> None:
    assert count_parameters(on_meta(MobileUViT, 1, 1)) == 1_390_305 - 2 * 9 * 16
    assert count_parameters(on_meta(MobileUViT, 3, 9)) == 1_390_305 + 8 * 17


def test_encoder_maps_halve_down_to_an_eighth_where_the_transformer_is() -> None:
    features = MobileUViT(**TINY).eval().forward_features(torch.zeros(1, 3, 32, 48))
    assert [tuple(f.shape) for f in features] == [
        (1, 4, 16, 24),
        (1, 6, 8, 12),
        (1, 8, 4, 6),
        (1, 12, 4, 6),
    ]


@torch.no_grad()
def test_a_convutr_block_whose_norms_are_zero_is_the_identity() -> None:
    block = ConvUtrBlock(6, 7).eval()
    nn.init.zeros_(block.depthwise[2].weight)
    nn.init.zeros_(block.mix[1][2].weight)
    x = torch.randn(1, 6, 9, 9)
    assert torch.equal(block(x), x)


@torch.no_grad()
def test_local_aggregation_keeps_signs_and_changes_a_value_at_most_by_halves_three_times() -> None:
    block = LocalAggregation(6, drop=0.0).eval()
    nn.init.normal_(block.position.weight, std=3)
    x = torch.randn(2, 6, 8, 8)
    ratio = block(x) / x
    assert 0.5**3 < ratio.min() < 0.9
    assert 1.1 < ratio.max() < 1.5**3


@torch.no_grad()
def test_local_aggregation_without_weights_is_the_identity() -> None:
    block = LocalAggregation(6, drop=0.0).eval()
    for last in (block.position, block.mix[3], block.each[3]):
        last.weight.zero_()
        last.bias.zero_()
    x = torch.randn(2, 6, 8, 8)
    assert torch.equal(block(x), x)


@torch.no_grad()
def test_local_aggregation_sees_ten_pixels_far() -> None:
    block = LocalAggregation(3, drop=0.0).double().eval()
    x = torch.randn(1, 3, 31, 31, dtype=torch.float64)
    changed = x.clone()
    changed[0, :, 15, 15] += 5
    rows, columns = (block(x) != block(changed)).any(1)[0].nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 25, 5, 25)


def attended(layer: SparseAttention, tokens: Tensor) -> Tensor:
    """``(B, N, C)`` tokens, head by head, by the formula."""
    weight, bias = layer.query_key_value.weight[..., 0, 0], layer.query_key_value.bias
    query, key, value = F.linear(tokens, weight, bias).chunk(3, dim=-1)
    size = tokens.shape[-1] // layer.heads
    heads = []
    for head in range(layer.heads):
        of_head = slice(head * size, (head + 1) * size)
        q, k, v = query[..., of_head], key[..., of_head], value[..., of_head]
        heads.append((q @ k.transpose(1, 2) / math.sqrt(size)).softmax(-1) @ v)
    out = torch.cat(heads, -1)
    return F.linear(out, layer.project.weight[..., 0, 0], layer.project.bias)


@torch.no_grad()
def test_attention_is_its_formula() -> None:
    layer = SparseAttention(6, heads=2, stride=1)
    x = 4 * torch.randn(2, 6, 5, 3)
    expected = attended(layer, x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_sparse_attention_sees_every_second_pixel_of_every_second_row() -> None:
    layer = SparseAttention(6, heads=2, stride=2)
    x = torch.randn(2, 6, 8, 4)
    out = layer(x)
    assert out.shape == x.shape
    unseen = torch.ones(8, 4, dtype=torch.bool)
    unseen[::2, ::2] = False
    assert torch.equal(layer(torch.where(unseen, torch.randn_like(x), x)), out)
    assert (layer(torch.where(unseen, x, torch.randn_like(x))) != out).any(1).all()


def test_blocks_are_dropped_while_training_and_only_then() -> None:
    x = torch.randn(64, 6, 2, 2)
    block = TransformerBlock(6, 2, drop=0.5)
    assert torch.equal(block.eval()(x), block(x))
    alone = x + block.position(x)
    untouched = torch.isclose(block.train()(x), alone).flatten(1).all(1)
    assert 4 <= untouched.sum() <= 32  # both branches are dropped of a quarter of the images


def test_known_weights_give_known_logits() -> None:
    net = MobileUViT(**{**TINY, "depths": (1, 1, 1, 1, 1)})
    expected = [-1277.346, 3804.737, -0.09819578, -295.1226]
    assert golden(net) == pytest.approx(expected, rel=1e-4)
