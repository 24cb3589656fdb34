"""What networks that segment by words have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from medseg.data.prompts import Kind


class TextNetwork(nn.Module, ABC):
    """Segments what a sentence says, one structure a sentence.

    Attributes:
        prompts: kinds of prompts it takes.
        in_unit_range: whether its images are in 0..1, because it normalises them itself; else they
            are normalised as of any other network.
        frozen: whether the part that understands language stays as it was before the training.
    """

    prompts: ClassVar[tuple[Kind, ...]] = ("text",)
    in_unit_range: ClassVar[bool] = False
    frozen: bool = False

    @abstractmethod
    def ask(self, image: Tensor, sentences: Sequence[str]) -> Tensor:
        """``(B, C, H, W)`` of any size and K sentences -> ``(B, K, H, W)`` logits."""

    @abstractmethod
    def forward(self, image: Tensor, texts: Sequence[str] | None = None) -> Tensor:
        """``(B, C, H, W)`` of any size -> ``(B, 1, H, W)`` logits.

        Args:
            image: of the network's channels.
            texts: a sentence for each image; by default the empty one.
        """

    def portable(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The ``options`` with which it is built again for its own weights, without any file."""
        return dict(options)


class Asked(nn.Module):
    """A network of words that is always asked the same: an ordinary network of images.

    With one sentence its logit is that of the structure. With several, a pixel belongs to the one
    of the largest probability, or to the background where none reaches a half: a softmax over a
    logit of 0 for the background and those of the sentences.

    Args:
        network: that is asked.
        sentences: one for each foreground class.
    """

    def __init__(self, network: TextNetwork, sentences: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self.sentences = tuple(sentences)

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, K, H, W)``, K = 1 or the sentences and the background."""
        logits = self.network.ask(image, self.sentences)
        if len(self.sentences) == 1:
            return logits
        return torch.cat([torch.zeros_like(logits[:, :1]), logits], 1)
