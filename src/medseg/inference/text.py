"""Models that segment what words say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.prompts import Prompts
from medseg.errors import ModelError
from medseg.inference.bundle import Manifest, StoredLabel
from medseg.inference.network import Model
from medseg.networks.language.text_network import Asked, TextNetwork


class TextModel(Model):
    """A trained network that is asked, of every image, for what its sentences say.

    Without other words it is asked for what it was trained on, and segments that like any model.

    Args:
        manifest: with a sentence for each foreground class.
        network: with the bundle's weights.
        device: as of :class:`Model`.
        precision: likewise.
    """

    def __init__(
        self,
        manifest: Manifest,
        network: TextNetwork,
        *,
        device: str = "auto",
        precision: str = "fp32",
    ) -> None:
        super().__init__(
            manifest, Asked(network, manifest.sentences), device=device, precision=precision
        )
        self.language = network

    def pointed(self, prompts: Prompts) -> TextModel:
        """This model, asked for something else in words: one structure an answer.

        Raises:
            ModelError: there are other prompts than words, or none.
        """
        prompts.require(self.manifest.prompts, self.manifest.system)
        asked: dict[str, Any] = {"sentences": (prompts.text,), "golden": ()}
        if len(self.manifest.labels) > 2:
            colour = self.manifest.labels[1].colour
            asked |= {
                "num_classes": 1,
                "labels": (
                    StoredLabel(name="background", value=0),
                    StoredLabel(name="structure", value=255, colour=colour),
                ),
                "rgb": False,
                "ignore": None,
                "regions": (),
            }
        return TextModel(
            self.manifest.model_copy(update=asked),
            self.language,
            device=str(self.device),
            precision=self.precision,
        )

    def predict(
        self,
        image: str | Path | NDArray[np.uint8],
        *,
        tta: bool = False,
        prompts: Prompts | None = None,
    ) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """:meth:`Model.predict`, of what ``prompts`` say where they are given."""
        if prompts is not None:
            return self.pointed(prompts).predict(image, tta=tta)
        return super().predict(image, tta=tta)


def text_model_of(manifest: Manifest, network: object, *, device: str, precision: str) -> TextModel:
    """The model of a bundle that holds sentences.

    Raises:
        ModelError: its network takes no words.
    """
    if not isinstance(network, TextNetwork):
        raise ModelError(
            manifest.system, "it takes no words, and its bundle holds sentences", "Copy it again"
        )
    return TextModel(manifest, network, device=device, precision=precision)
