from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from losses.samples import sample
from medseg.data.case import IGNORE
from medseg.losses.lovasz import lovasz_loss


def jaccard_loss(truth: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> float:
    """1 - intersection over union of the truth and what flipping ``wrong`` makes of it."""
    union = int((truth | wrong).sum())
    return int(wrong.sum()) / union if union else 0.0


def extension(errors: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """The Lovász extension by its definition: falling errors, times what each pixel adds."""
    errors = np.maximum(errors, 0)
    total, before = 0.0, 0.0
    wrong = np.zeros_like(truth)
    for pixel in np.argsort(-errors):
        wrong[pixel] = True
        now = jaccard_loss(truth, wrong)
        total += errors[pixel] * (now - before)
        before = now
    return total


@given(seed=st.integers(0, 1000), empty=st.booleans(), hidden=st.booleans())
@settings(max_examples=30, deadline=None)
def test_the_hinge_is_the_extension_of_each_images_jaccard_loss(
    seed: int, empty: bool, hidden: bool
) -> None:
    logits, mask = sample(seed, 1, empty=empty)
    if hidden:
        mask[:, 1:3, 2:5] = IGNORE
    expected = []
    for x, t in zip(logits.numpy()[:, 0], mask.numpy(), strict=True):
        known = t != IGNORE
        truth = t[known] == 1
        expected.append(extension(1 - x[known] * np.where(truth, 1, -1), truth))
    assert lovasz_loss(logits, mask).item() == pytest.approx(np.mean(expected))


@given(seed=st.integers(0, 1000), classes=st.sampled_from([2, 4]), hidden=st.booleans())
@settings(max_examples=30, deadline=None)
def test_the_softmax_form_is_the_mean_over_the_classes_that_are_there(
    seed: int, classes: int, hidden: bool
) -> None:
    logits, mask = sample(seed, classes)
    mask[mask == classes - 1] = 0
    if hidden:
        mask[:, 1:3, 2:5] = IGNORE
    expected = []
    for p, t in zip(torch.softmax(logits, 1).numpy(), mask.numpy(), strict=True):
        known = t != IGNORE
        values = [
            extension(np.abs((t[known] == k) - p[k][known]), t[known] == k)
            for k in range(classes)
            if (t == k).any()
        ]
        expected.append(np.mean(values))
    assert lovasz_loss(logits, mask).item() == pytest.approx(np.mean(expected))


def test_at_hard_predictions_it_is_the_jaccard_loss() -> None:
    """Of all masks of four pixels against all others, with probabilities of 0 and 1."""
    for truth in itertools.product((0, 1), repeat=4):
        for guess in itertools.product((0, 1), repeat=4):
            mask = torch.tensor(truth, dtype=torch.uint8).view(1, 2, 2)
            chosen = torch.tensor(guess).view(1, 2, 2)
            logits = 200.0 * torch.nn.functional.one_hot(chosen, 2).movedim(-1, 1) - 100
            t, g = np.array(truth, bool), np.array(guess, bool)
            values = [jaccard_loss(t == k, t != g) for k in (True, False) if (t == k).any()]
            assert lovasz_loss(logits, mask).item() == pytest.approx(np.mean(values))


def test_a_margin_of_one_costs_nothing() -> None:
    mask = torch.tensor([[[0, 1], [1, 0]]], dtype=torch.uint8)
    logits = torch.where(mask == 1, 1.0, -1.0).unsqueeze(1)
    assert lovasz_loss(logits, mask).item() == 0
    assert lovasz_loss(0.5 * logits, mask).item() == pytest.approx(0.5)
