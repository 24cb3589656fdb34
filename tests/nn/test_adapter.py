from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from medseg.nn.adapter import Adapter, adapt_output


class Attention(nn.Module):
    """Gives a tuple, as attention does."""

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return 2 * x, None


def lively(features: int = 4, width: int = 3) -> Adapter:
    torch.manual_seed(0)
    return Adapter(features, width)


@given(features=st.integers(1, 40), width=st.integers(1, 40))
def test_it_has_two_layers_with_biases(features: int, width: int) -> None:
    counted = sum(parameter.numel() for parameter in Adapter(features, width).parameters())
    assert counted == 2 * features * width + features + width


def test_it_only_adds() -> None:
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    added = lively()(x) - x
    assert (added >= 0).all()
    assert (added > 0).any()


def test_without_its_second_layer_it_changes_nothing() -> None:
    adapter = lively()
    nn.init.zeros_(adapter.up.weight)
    nn.init.zeros_(adapter.up.bias)
    x = torch.randn(5, 7, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(adapter(x), x)


def test_a_width_below_one_is_an_error() -> None:
    with pytest.raises(ValueError, match="width=0"):
        Adapter(4, 0)


@pytest.mark.parametrize("layer", [nn.Linear(4, 4), Attention()])
def test_a_layer_gives_its_output_through_the_adapter(layer: nn.Module) -> None:
    def of(output: Any) -> Any:
        return output[0] if isinstance(output, tuple) else output

    x, adapter = torch.ones(2, 4), lively()
    expected = adapter(of(layer(x)))
    adapt_output(layer, adapter)
    assert torch.equal(of(layer(x)), expected)


def test_a_copy_goes_through_the_copied_adapter() -> None:
    whole = nn.ModuleDict({"layer": nn.Linear(4, 4), "adapter": lively()})
    adapt_output(whole["layer"], whole["adapter"])
    x = torch.ones(2, 4)
    before = whole["layer"](x)
    other = copy.deepcopy(whole)
    nn.init.ones_(other["adapter"].up.bias)  # type: ignore[arg-type,union-attr]
    assert torch.equal(whole["layer"](x), before)
    assert not torch.equal(other["layer"](x), before)
