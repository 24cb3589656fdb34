from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from losses.samples import sample
from medseg.data.case import IGNORE
from medseg.losses.boundary import boundary_loss
from medseg.losses.lovasz import lovasz_loss
from medseg.losses.region import cross_entropy, dice_loss, probabilities
from medseg.losses.tversky import tversky_loss

LOSSES = [cross_entropy, dice_loss, tversky_loss, lovasz_loss, boundary_loss]
# The boundary loss is least, not zero, at the truth.
BOUNDED = LOSSES[:-1]


def numpy_probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K, H, W) logits to probabilities of all classes, background first."""
    if logits.shape[0] == 1:
        foreground = 1 / (1 + np.exp(-logits))
        return np.concatenate([1 - foreground, foreground])
    powers = np.exp(logits)
    return powers / powers.sum(axis=0)


@given(seed=st.integers(0, 1000), classes=st.sampled_from([1, 2, 5]), empty=st.booleans())
@settings(max_examples=30, deadline=None)
def test_cross_entropy_is_the_mean_negative_log_probability_of_the_truth(
    seed: int, classes: int, empty: bool
) -> None:
    logits, mask = sample(seed, classes, empty=empty)
    expected = [
        -np.log(np.take_along_axis(numpy_probabilities(x), t[None].astype(int), 0))
        for x, t in zip(logits.numpy(), mask.numpy(), strict=True)
    ]
    assert cross_entropy(logits, mask).item() == pytest.approx(np.mean(expected))


@given(
    seed=st.integers(0, 1000),
    classes=st.sampled_from([1, 2, 5]),
    empty=st.booleans(),
    smooth=st.sampled_from([0.5, 1.0, 10.0]),
)
@settings(max_examples=30, deadline=None)
def test_dice_loss_is_the_mean_over_images_and_foreground_classes(
    seed: int, classes: int, empty: bool, smooth: float
) -> None:
    logits, mask = sample(seed, classes, empty=empty)
    losses = []
    for x, t in zip(logits.numpy(), mask.numpy(), strict=True):
        for k, p in enumerate(numpy_probabilities(x)[1:], start=1):
            overlap, total = p[t == k].sum(), p.sum() + (t == k).sum()
            losses.append(1 - (2 * overlap + smooth) / (total + smooth))
    assert dice_loss(logits, mask, smooth=smooth).item() == pytest.approx(np.mean(losses))


@pytest.mark.parametrize("loss", LOSSES)
@given(seed=st.integers(0, 1000), classes=st.sampled_from([1, 4]), empty=st.booleans())
@settings(max_examples=20, deadline=None)
def test_the_loss_of_a_batch_is_the_mean_of_the_losses_of_its_images(
    loss: object, seed: int, classes: int, empty: bool
) -> None:
    assert callable(loss)
    logits, mask = sample(seed, classes, empty=empty)
    mask[0] = 0
    single = [loss(logits[i : i + 1], mask[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(loss(logits, mask), torch.stack(single).mean())


@pytest.mark.parametrize("loss", BOUNDED)
@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_a_confident_right_prediction_costs_nothing(
    loss: object, classes: int, empty: bool
) -> None:
    assert callable(loss)
    _, mask = sample(0, classes, empty=empty)
    right = torch.nn.functional.one_hot(mask.long(), max(2, classes)).movedim(-1, 1)
    logits = (40.0 * right - 20) if classes > 1 else (40.0 * right[:, 1:] - 20)
    assert loss(logits, mask).item() == pytest.approx(0, abs=1e-5)


def test_inventing_a_class_that_is_absent_costs_dice() -> None:
    _, mask = sample(0, 1, empty=True)
    logits = torch.full((3, 1, 5, 7), 20.0)
    assert dice_loss(logits, mask).item() == pytest.approx(1 - 1 / 36)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_extreme_logits_have_finite_gradients(loss: object, classes: int, size: float) -> None:
    assert callable(loss)
    logits, mask = sample(0, classes)
    extreme = (logits.float().sign() * size).requires_grad_()
    value = loss(extreme, mask)
    value.backward()
    assert value.isfinite()
    assert extreme.grad is not None
    assert extreme.grad.isfinite().all()


@pytest.mark.parametrize("classes", [1, 4])
def test_dice_falls_when_logits_follow_its_negative_gradient(classes: int) -> None:
    logits, mask = sample(1, classes)
    logits.requires_grad_()
    before = dice_loss(logits, mask)
    before.backward()
    assert logits.grad is not None
    assert dice_loss(logits.detach() - logits.grad, mask) < before


def test_probabilities_of_several_classes_sum_to_one() -> None:
    logits, _ = sample(0, 4)
    torch.testing.assert_close(probabilities(logits).sum(1), torch.ones(3, 5, 7).double())


def test_two_softmax_classes_agree_with_one_sigmoid() -> None:
    logits, mask = sample(0, 1)
    two = torch.cat([torch.zeros_like(logits), logits], 1)
    torch.testing.assert_close(cross_entropy(two, mask), cross_entropy(logits, mask))
    torch.testing.assert_close(dice_loss(two, mask), dice_loss(logits, mask))


@pytest.mark.parametrize("loss", LOSSES)
@given(seed=st.integers(0, 1000), classes=st.sampled_from([1, 2, 5]))
@settings(max_examples=20, deadline=None)
def test_what_is_predicted_for_ignored_pixels_does_not_matter(
    loss: Callable[[Tensor, Tensor], Tensor], seed: int, classes: int
) -> None:
    logits, mask = sample(seed, classes)
    mask[:, 1:3, 2:5] = IGNORE
    other = logits.clone()
    other[:, :, 1:3, 2:5] = 7.0
    assert loss(logits, mask).item() == loss(other, mask).item()


@given(seed=st.integers(0, 1000), classes=st.sampled_from([1, 2, 5]))
@settings(max_examples=20, deadline=None)
def test_cross_entropy_is_that_of_the_known_part(seed: int, classes: int) -> None:
    logits, mask = sample(seed, classes)
    expected = cross_entropy(logits[..., :4], mask[..., :4])
    mask[..., 4:] = IGNORE
    assert cross_entropy(logits, mask).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("loss", LOSSES)
def test_an_image_of_which_nothing_is_known_teaches_nothing(
    loss: Callable[[Tensor, Tensor], Tensor],
) -> None:
    logits = torch.randn(2, 3, 5, 7, requires_grad=True)
    mask = torch.full((2, 5, 7), IGNORE, dtype=torch.uint8)
    loss(logits, mask).backward()
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("classes", [1, 3])
def test_a_volume_costs_what_its_voxels_would_as_an_image(
    loss: Callable[[Tensor, Tensor], Tensor], classes: int
) -> None:
    logits, mask = sample(0, classes, size=(1, 5, 7))
    assert loss(logits, mask).item() == pytest.approx(loss(logits[:, :, 0], mask[:, 0]).item())
