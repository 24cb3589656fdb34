"""Models that are pointed at what they segment."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg.data.prompts import Prompts, at_size
from medseg.errors import ModelError
from medseg.inference.network import HALVES, Model
from medseg.inference.predictor import Prediction
from medseg.losses.region import probabilities
from medseg.nn.prompts import PromptTensors

if TYPE_CHECKING:
    from medseg.inference.session import Session


class PromptableModel(Model):
    """A trained network that answers prompts: one structure an answer.

    Attributes:
        prompts: what every image is segmented by; see :meth:`pointed`.
    """

    fixed_by_image = False

    prompts = Prompts()

    def pointed(self, prompts: Prompts) -> PromptableModel:
        """This model, pointed at something in pixels of the images it will be given.

        Raises:
            ModelError: it does not take such prompts, or there are none.
        """
        prompts.require(self.manifest.prompts, self.manifest.system)
        model = copy.copy(self)
        model.prompts = prompts
        return model

    def session(self, image: str | Path | NDArray[np.uint8]) -> Session:
        """An image to click, draw and correct in, see :class:`Session`.

        Raises:
            DataError: an unreadable file, or an array of another shape or type.
        """
        from medseg.inference.session import Session

        return Session(self, image)

    def predict(
        self,
        image: str | Path | NDArray[np.uint8],
        *,
        tta: bool = False,
        prompts: Prompts | None = None,
    ) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """:meth:`Model.predict` of what ``prompts`` point at, in the image's own pixels."""
        if prompts is not None:
            return self.pointed(prompts).predict(image, tta=tta)
        return super().predict(image, tta=tta)

    def check_ready(self) -> None:
        self.prompts.require(self.manifest.prompts, self.manifest.system)

    def compute(
        self,
        prepared: Sequence[NDArray[np.float32]],
        sizes: Sequence[tuple[int, int]],
        *,
        tta: bool = False,
        with_probabilities: bool = False,
    ) -> Iterator[Prediction]:
        self.check_ready()
        if tta:
            raise ModelError(
                "--tta", f"{self.manifest.system} is not asked about flipped images", "Leave it out"
            )
        side = self.manifest.preprocessing.image_size
        for picture, (height, width) in zip(prepared, sizes, strict=True):
            self.prompts.check(height, width)
            logits = self.answer(picture, at_size(self.prompts, height, width, side))
            yield self.finished(logits, (height, width), with_probabilities=with_probabilities)

    @torch.inference_mode()
    def answer(
        self, prepared: NDArray[np.float32], prompts: Prompts, previous: Tensor | None = None
    ) -> Tensor:
        """``(1, 1, S, S)`` float32 logits.

        Args:
            prepared: ``(C, S, S)``, by :meth:`prepare`.
            prompts: in pixels of it.
            previous: ``(1, 1, S, S)`` logits of the answer to be corrected; by default those of
                the prompts' mask.
        """
        image = torch.from_numpy(prepared[None]).to(self.device)
        with torch.autocast(
            self.device.type, dtype=HALVES[self.precision], enabled=self.precision != "fp32"
        ):
            logits: Tensor = self.network(image, PromptTensors.of([prompts], image, previous))
        return logits.float()

    def finished(
        self, logits: Tensor, size: tuple[int, int], *, with_probabilities: bool
    ) -> Prediction:
        """``(1, 1, S, S)`` logits as an answer of the image's own size."""
        resized = self.resize_logits(logits[0] / self.manifest.temperature, size)
        shares = probabilities(resized[None])[0].cpu().numpy() if with_probabilities else None
        return Prediction(self.classes(resized), shares)
