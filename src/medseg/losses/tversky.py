"""The Tversky loss, which weighs false alarms and misses apart, and its focal form."""

from __future__ import annotations

from torch import Tensor

from medseg.losses.region import foreground, total

# Below this the focal form's slope would be infinite.
_LEAST = 1e-7


def tversky_loss(
    logits: Tensor,
    mask: Tensor,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 1.0,
    smooth: float = 0.5,
) -> Tensor:
    """``(1 - T) ** gamma``, averaged over images and foreground classes.

    ``T = (TP + s) / (TP + alpha FP + beta FN + s)`` with soft counts over the known pixels of one
    image. With ``alpha = beta = 0.5`` and ``gamma = 1`` it is soft Dice with a ``smooth`` of 2 s.

    Args:
        logits: ``(B, K, *S)``.
        mask: ``(B, *S)`` class indices, 0 is background, ``IGNORE`` is not known.
        alpha: weight of false positives.
        beta: weight of false negatives.
        gamma: below 1 the last gains count more (the focal paper's 1 / gamma; it uses 0.75).
        smooth: s, in pixels; makes an empty prediction of an empty class worth 0.

    Source:
        Salehi, Erdogmus, Gholipour 2017 (arXiv 1706.05721); focal: Abraham, Khan 2018 (arXiv
        1810.07842).
    """
    p, t, known = foreground(logits, mask)
    hit = total(p * t)
    false_alarm = total(p * (known - t))
    miss = total((1 - p) * t)
    index = (hit + smooth) / (hit + alpha * false_alarm + beta * miss + smooth)
    return (1 - index).clamp_min(_LEAST).pow(gamma).mean() if gamma != 1 else (1 - index).mean()
