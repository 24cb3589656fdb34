"""Segmenting one image step by step: point, look, correct, take back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medseg.data.labels import decode_mask
from medseg.data.prompts import Box, Point, Prompts, at_size
from medseg.errors import DataError
from medseg.inference.components import clean
from medseg.inference.predictor import Prediction, as_image
from medseg.inference.promptable import PromptableModel


class Session:
    """An image, what was pointed at in it so far, and the answer.

    ::

        session = medseg.load("runs/clicks").session("scan.png")
        session.click(120, 64)
        session.click(90, 80, positive=False)
        session.undo()
        mask = session.mask

    Each interaction is answered at once, and the answer before is what the network goes on from,
    so the order of interactions matters. Everything is in the image's own pixels, see
    :mod:`medseg.data.prompts`.

    Args:
        model: takes prompts.
        image: a file, or an array ``(H, W)`` or ``(H, W, C)`` uint8.

    Attributes:
        size: height and width of the image.

    Raises:
        DataError: an unreadable file, or an array of another shape or type.
    """

    def __init__(self, model: PromptableModel, image: str | Path | NDArray[np.uint8]) -> None:
        array = as_image(image, model.max_pixels)
        self.model = model
        self.size = (array.shape[0], array.shape[1])
        self._prepared = model.prepare(array)
        self._past: list[tuple[Prompts, Tensor | None]] = [(Prompts(), None)]
        self._undone: list[tuple[Prompts, Tensor | None]] = []

    @property
    def prompts(self) -> Prompts:
        """All that was pointed at so far."""
        return self._past[-1][0]

    @property
    def interactions(self) -> int:
        """How many there were, without those taken back."""
        return len(self._past) - 1

    def click(self, x: int, y: int, *, positive: bool = True) -> None:
        """Click on the structure or, with ``positive=False``, beside it."""
        self.add(Prompts(points=(Point(x, y, positive),)))

    def box(self, x0: int, y0: int, x1: int, y1: int) -> None:
        """Draw a box around the structure: columns x0 to x1 - 1, rows y0 to y1 - 1."""
        self.add(Prompts(boxes=(Box(x0, y0, x1, y1),)))

    def scribble(self, drawn: NDArray[np.generic], *, positive: bool = True) -> None:
        """Draw on the structure or, with ``positive=False``, beside it.

        Args:
            drawn: ``(H, W)``, bool or 0 to 1.
            positive: whether what is drawn on belongs to the structure.
        """
        strokes = np.asarray(drawn, dtype=np.float32)
        if strokes.shape != self.size:
            raise DataError(
                "scribble", f"an array of shape {strokes.shape}", f"Give one of {self.size}"
            )
        nothing = np.zeros_like(strokes)
        both = (strokes, nothing) if positive else (nothing, strokes)
        self.add(Prompts(scribbles=np.stack(both)))

    def add(self, prompts: Prompts) -> None:
        """Several prompts as one interaction.

        Raises:
            DataError: something lies outside the image.
            ModelError: the model does not take it, or nothing is pointed at.
        """
        prompts.require(self.model.manifest.prompts, self.model.manifest.system)
        prompts.check(*self.size)
        before, previous = self._past[-1]
        everything = before + prompts
        if prompts.mask is not None:
            previous = None
        side = self.model.manifest.preprocessing.image_size
        logits = self.model.answer(self._prepared, at_size(everything, *self.size, side), previous)
        self._past.append((everything, logits))
        self._undone.clear()

    def undo(self) -> bool:
        """Take the last interaction back, to the bit; False where there is none."""
        if not self.interactions:
            return False
        self._undone.append(self._past.pop())
        return True

    def redo(self) -> bool:
        """Repeat the interaction that was taken back last; False where there is none."""
        if not self._undone:
            return False
        self._past.append(self._undone.pop())
        return True

    def reset(self) -> None:
        """Begin again with the same image."""
        del self._past[1:]
        self._undone.clear()

    @property
    def mask(self) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """``(H, W)`` label values, as the model's masks store them; background before the first
        interaction."""
        return decode_mask(self.classes, self.model.labels)

    @property
    def classes(self) -> NDArray[np.uint8]:
        """``(H, W)`` uint8, 1 on the structure."""
        found = self._answer().classes
        return clean(found, self.model.manifest.postprocessing)

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """``(H, W)`` of the structure; 0 before the first interaction."""
        found = self._answer().probabilities
        assert found is not None
        return np.asarray(found[0])

    def _answer(self) -> Prediction:
        logits = self._past[-1][1]
        if logits is None:
            nothing = np.zeros((1, *self.size), np.float32)
            return Prediction(nothing[0].astype(np.uint8), nothing)
        return self.model.finished(logits, self.size, with_probabilities=True)
