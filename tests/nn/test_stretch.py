from __future__ import annotations

import torch

from medseg.nn.blocks import resize_to
from medseg.nn.stretch import stretch


def test_corners_keep_their_values_and_what_lies_between_is_linear() -> None:
    x = torch.tensor([[[[0.0, 3.0], [6.0, 9.0]]]])
    expected = torch.tensor([[0.0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [6, 7, 8, 9]])
    torch.testing.assert_close(stretch(x, (4, 4))[0, 0], expected)
    assert not torch.allclose(resize_to(x, expected)[0, 0], expected)


def test_a_map_of_the_size_already_is_kept_bit_for_bit() -> None:
    x = torch.randn(2, 3, 5, 7)
    assert torch.equal(stretch(x, (5, 7)), x)
