from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import TverskyLoss

from losses.samples import sample
from medseg.losses.region import dice_loss
from medseg.losses.tversky import tversky_loss


@given(
    seed=st.integers(0, 1000),
    classes=st.sampled_from([1, 3]),
    alpha=st.floats(0.1, 1),
    beta=st.floats(0.1, 1),
)
@settings(max_examples=20, deadline=None)
def test_it_is_monais(seed: int, classes: int, alpha: float, beta: float) -> None:
    logits, mask = sample(seed, classes)
    theirs = TverskyLoss(
        include_background=classes == 1,
        to_onehot_y=classes > 1,
        sigmoid=classes == 1,
        softmax=classes > 1,
        alpha=alpha,
        beta=beta,
        smooth_nr=0.5,
        smooth_dr=0.5,
    )
    found = tversky_loss(logits, mask, alpha=alpha, beta=beta)
    assert found.item() == pytest.approx(theirs(logits, mask.unsqueeze(1)).item(), abs=1e-6)


@given(seed=st.integers(0, 1000), classes=st.sampled_from([1, 2, 5]), empty=st.booleans())
@settings(max_examples=20, deadline=None)
def test_with_equal_weights_of_one_half_it_is_soft_dice(
    seed: int, classes: int, empty: bool
) -> None:
    logits, mask = sample(seed, classes, empty=empty)
    found = tversky_loss(logits, mask, alpha=0.5, beta=0.5, smooth=0.5)
    assert found.item() == pytest.approx(dice_loss(logits, mask, smooth=1).item())


def test_the_focal_form_raises_the_loss_of_each_image_to_gamma() -> None:
    logits, mask = sample(0, 1)
    each = [tversky_loss(logits[i : i + 1], mask[i : i + 1]).item() for i in range(3)]
    assert tversky_loss(logits, mask, gamma=0.75).item() == pytest.approx(
        np.mean(np.array(each) ** 0.75)
    )


def test_a_larger_beta_makes_misses_dearer_and_false_alarms_cheaper() -> None:
    mask = torch.zeros(1, 4, 4, dtype=torch.uint8)
    mask[:, :2] = 1
    missing, inventing = torch.full((2, 1, 1, 4, 4), -20.0)
    missing[..., :1, :] = 20
    inventing[..., :3, :] = 20

    def costs(alpha: float, beta: float) -> tuple[float, float]:
        return tuple(
            tversky_loss(each, mask, alpha=alpha, beta=beta).item() for each in (missing, inventing)
        )

    assert costs(0.3, 0.7)[0] > costs(0.5, 0.5)[0]
    assert costs(0.3, 0.7)[1] < costs(0.5, 0.5)[1]
