from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medseg.errors import RecipeError
from medseg.methods.method import Batch
from medseg.methods.reconstruction import Reconstruction, hidden_patches
from medseg.recipe import Recipe

KEYS = [(0, 1, 2), (0, 1, 3)]


class Constant(nn.Module):
    """Says the same of every pixel."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, image: Tensor) -> Tensor:
        return torch.zeros_like(image) + self.value


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    patch=st.integers(1, 20),
    share=st.floats(0.05, 0.95),
)
@settings(max_examples=30, deadline=None)
def test_whole_patches_are_hidden_and_as_many_as_the_share_says(
    height: int, width: int, patch: int, share: float
) -> None:
    hidden = hidden_patches(KEYS, (height, width), patch=patch, share=share)
    assert hidden.shape == (2, 1, height, width)
    corners = hidden[..., ::patch, ::patch]
    count = max(1, round(share * corners[0].numel()))
    assert corners.flatten(1).sum(1).tolist() == [count, count]
    whole = corners.repeat_interleave(patch, -2).repeat_interleave(patch, -1)
    assert torch.equal(whole[..., :height, :width], hidden)


def test_what_is_hidden_depends_on_the_key_alone() -> None:
    def hide(*keys: tuple[int, ...]) -> Tensor:
        return hidden_patches(keys, (64, 64), patch=8, share=0.5)

    both = hide(*KEYS)
    assert torch.equal(hide(KEYS[1])[0], both[1])
    assert not torch.equal(both[0], both[1])


def test_the_error_is_that_of_the_hidden_pixels_alone() -> None:
    image = torch.randn(2, 3, 32, 32)
    method = Reconstruction(Constant(0.5), Recipe(), patch=8)
    hidden = hidden_patches(KEYS, (32, 32), patch=8, share=0.5)
    for errors, pixels, its in zip(method.errors(image, KEYS), image, hidden, strict=True):
        torch.testing.assert_close(errors, (pixels[:, its[0]] - 0.5).square().mean())


def test_the_network_does_not_see_what_is_hidden() -> None:
    image = torch.randn(2, 3, 32, 32)
    hidden = hidden_patches(KEYS, (32, 32), patch=16, share=0.5)
    seen: list[Tensor] = []

    class Watching(Constant):
        def forward(self, image: Tensor) -> Tensor:
            seen.append(image)
            return super().forward(image)

    Reconstruction(Watching(0.0), Recipe()).errors(image, KEYS)
    assert not seen[0].masked_select(hidden).any()
    assert torch.equal(seen[0].masked_select(~hidden), image.masked_select(~hidden))


def test_the_loss_is_the_mean_over_images() -> None:
    image = torch.randn(2, 3, 32, 32)
    method = Reconstruction(Constant(0.0), Recipe())
    batch: Batch = {
        "image": image,
        "mask": torch.zeros(2, 32, 32, dtype=torch.uint8),
        "case_id": ("a", "b"),
        "key": KEYS,
    }
    losses = method.training_step(batch)
    torch.testing.assert_close(losses["reconstruction"], method.errors(image, KEYS).mean())


@pytest.mark.parametrize("options", [{"patch": 0}, {"hidden": 0.0}, {"hidden": 1.0}])
def test_options_that_hide_nothing_or_everything_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="method_options"):
        Reconstruction(Constant(0.0), Recipe(), **options)  # type: ignore[arg-type]
