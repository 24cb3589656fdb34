from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.inference.logits import predicted_classes


@given(threshold=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_one_channel_is_foreground_where_its_probability_reaches_the_threshold(
    threshold: float, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(2, 1, 5, 6, generator=random, dtype=torch.float64)
    expected = torch.sigmoid(logits[:, 0]) >= threshold
    assert torch.equal(predicted_classes(logits, threshold), expected.to(torch.uint8))


def test_a_probability_of_exactly_one_half_is_foreground() -> None:
    assert predicted_classes(torch.zeros(1, 1, 1, 1), 0.5).item() == 1


@pytest.mark.parametrize("classes", [2, 5, 255])
def test_several_channels_take_the_largest(classes: int) -> None:
    chosen = torch.arange(24).view(2, 3, 4) % classes
    logits = torch.randn(2, classes, 3, 4)
    logits.scatter_(1, chosen[:, None], 10.0)
    assert torch.equal(predicted_classes(logits, 0.9), chosen.to(torch.uint8))
