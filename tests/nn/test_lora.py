"""Low-rank updates of layers: counts, ranks, closed forms, merging."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.nn.lora import Kind, Layer, LowRank, add_low_rank, low_rank_layers, merge, unmerge

KINDS: tuple[Kind, ...] = ("plain", "convlora", "cp")
SIX = list(itertools.product(KINDS, (False, True)))


def layers() -> list[Layer]:
    """One of each sort, with groups, strides and kernels that are no squares."""
    return [
        nn.Linear(5, 7),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Conv2d(6, 6, 3, groups=6),
        nn.Conv2d(4, 6, (1, 5), groups=2, stride=2),
        nn.Conv3d(2, 3, (1, 3, 3)),
        nn.ConvTranspose2d(4, 6, 2, stride=2),
        nn.ConvTranspose2d(4, 6, (2, 3), groups=2),
        nn.ConvTranspose3d(2, 3, 2, stride=2),
    ]


def image_for(layer: Layer, **options: torch.dtype) -> Tensor:
    torch.manual_seed(3)
    if isinstance(layer, nn.Linear):
        return torch.randn(2, layer.in_features, **options)
    return torch.randn(2, layer.in_channels, *[7] * (layer.weight.ndim - 2), **options)


def moved(layer: Layer, rank: int = 2, *, kind: Kind = "plain", dora: bool = False) -> LowRank:
    """An update of ``layer`` that has learnt something."""
    update = add_low_rank(layer, rank, kind=kind, dora=dora)
    with torch.no_grad():
        for parameter in update.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return update


@pytest.mark.parametrize(
    ("kind", "dora", "count"),
    [
        ("cp", False, 216),
        ("plain", False, 704),
        ("convlora", False, 1728),
        ("cp", True, 248),
        ("plain", True, 736),
        ("convlora", True, 1760),
    ],
)
def test_an_update_of_16_to_32_channels_at_rank_4_has_the_counted_weights(
    kind: Kind, dora: bool, count: int
) -> None:
    update = add_low_rank(nn.Conv2d(16, 32, 3), 4, kind=kind, dora=dora)
    assert sum(parameter.numel() for parameter in update.parameters()) == count


@settings(deadline=None)
@given(
    outputs=st.integers(1, 9), inputs=st.integers(1, 9), k=st.integers(1, 4), r=st.integers(1, 5)
)
def test_counts_follow_the_formulas(outputs: int, inputs: int, k: int, r: int) -> None:
    formulas = {
        "plain": r * (inputs * k * k + outputs),
        "convlora": r * k * (inputs * k + outputs * k),
        "cp": r * (outputs + inputs + 2 * k),
    }
    for kind in KINDS:
        update = LowRank(nn.Conv2d(inputs, outputs, k), r, kind=kind)
        assert sum(parameter.numel() for parameter in update.parameters()) == formulas[kind]


@pytest.mark.parametrize(("kind", "dora"), SIX)
def test_at_first_nothing_changes(kind: Kind, dora: bool) -> None:
    for layer in layers():
        before = layer.weight.detach().clone()
        add_low_rank(layer, 3, kind=kind, dora=dora)
        if dora:
            assert torch.allclose(layer.weight, before, rtol=0, atol=1e-6), layer
        else:
            assert torch.equal(layer.weight, before), layer


@pytest.mark.parametrize(("kind", "dora"), SIX)
def test_only_the_update_learns_and_all_of_it(kind: Kind, dora: bool) -> None:
    for layer in layers():
        update = moved(layer, kind=kind, dora=dora)
        layer(image_for(layer)).square().sum().backward()
        assert layer.parametrizations.weight.original.grad is None  # type: ignore[union-attr]
        assert all(p.grad is not None and p.grad.any() for p in update.parameters()), layer


@pytest.mark.parametrize(("kind", "dora"), SIX)
def test_a_merged_network_computes_the_same_with_plain_layers(kind: Kind, dora: bool) -> None:
    for layer in layers():
        network = nn.Sequential(layer)
        image = image_for(layer)
        plain = type(layer)
        moved(layer, kind=kind, dora=dora)
        expected = network(image)
        merge(network)
        assert torch.allclose(network(image), expected, rtol=0, atol=1e-6)
        assert type(network[0]) is plain
        assert set(network.state_dict()) == {"0.weight", "0.bias"}


@pytest.mark.parametrize(("kind", "dora"), SIX)
def test_unmerging_gives_back_the_weight_to_the_bit(kind: Kind, dora: bool) -> None:
    for layer in layers():
        network = nn.Sequential(layer.double())
        before = layer.weight.detach().clone()
        update = moved(layer, kind=kind, dora=dora)
        image = image_for(layer, dtype=torch.float64)
        expected, state = network(image), copy.deepcopy(network.state_dict())
        merged = merge(network)
        if not dora:
            assert torch.allclose(layer.weight - update.update(), before, rtol=0, atol=1e-15)
        assert merge(network) == {}
        unmerge(network, merged)
        assert torch.equal(network(image), expected)
        after = network.state_dict()
        assert after.keys() == state.keys()
        assert all(torch.equal(after[name], tensor) for name, tensor in state.items())
        original = layer.parametrizations.weight.original  # type: ignore[union-attr]
        assert torch.equal(original, before)
        assert not original.requires_grad


def test_merging_a_copy_leaves_the_network_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3))
    moved(network[0])
    twin = copy.deepcopy(network)
    merge(twin)
    assert [name for name, _, _ in low_rank_layers(network)] == ["0"]
    assert torch.equal(network[0].weight, twin[0].weight)


def test_plain_is_a_convolution_to_few_channels_and_a_mixture_of_them() -> None:
    layer = nn.Conv2d(5, 7, 3, padding=1)
    image = image_for(layer)
    base = layer(image)
    up, down = moved(layer, 2).factors
    low = F.conv2d(image, down.view(2, 5, 3, 3), padding=1)
    expected = base + F.conv2d(low, up.view(7, 2, 1, 1))
    assert torch.allclose(layer(image), expected, atol=1e-5)


def test_cp_is_a_chain_of_four_thin_convolutions() -> None:
    layer = nn.Conv2d(5, 7, 3, padding=1)
    image = image_for(layer)
    base = layer(image)
    a, b, c, d = moved(layer, 2, kind="cp").factors
    chain = F.conv2d(image, b.view(2, 5, 1, 1))
    chain = F.conv2d(chain, c.view(2, 1, 3, 1), padding=(1, 0), groups=2)
    chain = F.conv2d(chain, d.view(2, 1, 1, 3), padding=(0, 1), groups=2)
    expected = base + F.conv2d(chain, a.T.reshape(7, 2, 1, 1))
    assert torch.allclose(layer(image), expected, atol=3e-5)


@pytest.mark.parametrize(("kind", "rank"), [("plain", 2), ("convlora", 18), ("cp", 2)])
def test_the_rank_as_a_map_from_inputs_to_outputs(kind: Kind, rank: int) -> None:
    update = moved(nn.Conv2d(16, 32, 3).double(), 2, kind=kind).update().detach()
    assert torch.linalg.matrix_rank(update.reshape(32, -1)) == rank


def test_convlora_has_low_rank_in_its_own_view_of_the_kernel() -> None:
    update = moved(nn.Conv2d(16, 32, 3).double(), 2, kind="convlora").update().detach()
    assert torch.linalg.matrix_rank(update.reshape(32 * 3, 16 * 3)) == 6


def waves(*size: int) -> Tensor:
    return torch.sin(torch.arange(math.prod(size), dtype=torch.float64)).view(size)


@pytest.mark.parametrize(
    ("inputs", "outputs", "k", "rank", "alpha", "total", "first"),
    [
        (3, 4, 3, 2, 2, -12.690324187477353, 0.6576733727782962),
        (3, 4, 3, 2, 6, -33.33683734553258, 1.9202731852209163),
        (5, 2, 5, 1, 1, -21.17563749901935, 3.210850555622014),
    ],
)
def test_convlora_computes_what_its_authors_code_computes(
    inputs: int, outputs: int, k: int, rank: int, alpha: float, total: float, first: float
) -> None:
    """Numbers of aleemsidra/ConvLoRA (loralib's Conv2d) with the same weights and image."""
    layer = nn.Conv2d(inputs, outputs, k, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(waves(outputs, inputs, k, k))
        update = add_low_rank(layer, rank, alpha=alpha, kind="convlora")
        for factor in update.factors:
            factor.copy_(waves(*factor.shape) + 0.1)
    found = layer(waves(1, inputs, 6, 6))
    assert found.sum().item() == pytest.approx(total, abs=1e-9)
    assert found[0, 0, 0, 0].item() == pytest.approx(first, abs=1e-9)


def test_in_a_linear_layer_the_kinds_have_the_same_size_and_rank() -> None:
    for kind in KINDS:
        update = moved(nn.Linear(9, 8).double(), 3, kind=kind)
        assert sum(p.numel() for p in update.factors) == 3 * (9 + 8)
        assert torch.linalg.matrix_rank(update.update().detach()) == 3


def test_a_transposed_convolution_is_updated_as_the_convolution_that_it_transposes() -> None:
    back = nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False).double()
    update = moved(back, 1)
    # Rows are outputs: each group's rows hold what one matrix of rank 1 puts there.
    rows = update.update().reshape(2, 2, 3, 9).transpose(1, 2).reshape(6, 18)
    assert torch.linalg.matrix_rank(rows.detach()) == 1


@settings(max_examples=20, deadline=None)
@given(alpha=st.floats(0.1, 50), rank=st.integers(1, 6))
def test_the_update_grows_with_alpha_over_rank(alpha: float, rank: int) -> None:
    layer = nn.Conv2d(3, 4, 3)
    one, other = LowRank(layer, rank), LowRank(layer, rank, alpha=alpha)
    for each in (one, other):
        for factor in each.factors:
            nn.init.constant_(factor, 0.5)
    assert torch.allclose(other.update(), one.update() * (alpha / rank), rtol=1e-5)


@pytest.mark.parametrize("layer", layers(), ids=lambda layer: type(layer).__name__)
def test_dora_gives_each_output_the_learnt_length(layer: Layer) -> None:
    update = moved(layer, dora=True)
    assert update.magnitude is not None
    weight = layer.weight.detach()
    if isinstance(layer, nn.ConvTranspose2d | nn.ConvTranspose3d):
        inputs, outputs, *kernel = weight.shape
        groups = weight.reshape(layer.groups, inputs // layer.groups, outputs, *kernel)
        weight = groups.transpose(1, 2).flatten(0, 1)
    lengths = weight.flatten(1).norm(dim=1)
    assert torch.allclose(lengths, update.magnitude.abs(), atol=1e-6)


def test_dora_treats_the_divisor_as_a_constant() -> None:
    """So a weight's gradient is that of the update, m / length times as large."""
    layer = nn.Linear(4, 3, bias=False).double()
    update = moved(layer, 2, dora=True)
    assert update.magnitude is not None
    towards = torch.randn(3, 4, dtype=torch.float64)
    (layer.weight * towards).sum().backward()
    up, down = update.factors
    base = layer.parametrizations.weight.original  # type: ignore[union-attr]
    lengths = (base + up @ down).norm(dim=1, keepdim=True)
    expected = (update.magnitude[:, None] / lengths * towards) @ down.T
    assert torch.allclose(up.grad, expected)  # type: ignore[arg-type]


def test_an_output_without_weights_stays_without() -> None:
    layer = nn.Conv2d(2, 3, 3)
    nn.init.zeros_(layer.weight)
    add_low_rank(layer, 2, dora=True)
    assert not layer.weight.any()


def test_an_update_is_exact_where_a_training_computes_in_half_precision() -> None:
    layer = nn.Conv2d(8, 8, 3)
    moved(layer)
    expected = layer.weight.detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer.weight, expected)


def test_a_rank_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="rank 0"):
        LowRank(nn.Conv2d(2, 2, 3), 0)


def test_the_three_kinds_begin_alike_in_size() -> None:
    """What multiplies the zero factor has the variance of PyTorch's kernels, 1 / (3 I k^2)."""
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 8, 3)
    _, down = LowRank(layer, 64).factors
    _, b, c, d = LowRank(layer, 64, kind="cp").factors
    chained = (b[:, :, None, None] * c[:, None, :, None] * d[:, None, None]).flatten()
    for each in (down, chained):
        assert each.std().item() == pytest.approx(math.sqrt(1 / (3 * 64 * 9)), rel=0.15)
