"""Images with sentences that say what is wanted of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from medseg.data.case import IGNORE
from medseg.data.sentences import Sentences, called_by_name, find_sentences, read_sentences
from medseg.engine.feed import Autocast, ImageFeed
from medseg.engine.prepare import Material
from medseg.methods.method import Batch
from medseg.methods.registry import method_class
from medseg.methods.text_driven import TextDriven
from medseg.networks.language.text_network import Asked, TextNetwork
from medseg.recipe import Recipe


def sentences_for(recipe: Recipe, data: Path, material: Material) -> Sentences | None:
    """What a training of a network of words says of the classes; None of any other network.

    Args:
        recipe: of the run.
        data: the dataset's folder or manifest.
        material: what it holds.

    Raises:
        DataError: the file that the recipe names is not there, or is no store.
    """
    if not issubclass(method_class(recipe.method), TextDriven):
        return None
    names = material.labels.names[1:]
    named = recipe.method_options.get("sentences")
    place = Path(named) if named else find_sentences(data)
    if place is None:
        return called_by_name(names)
    return read_sentences(place, names, {case.id for case in material.survey.dataset.cases})


class TextFeed(ImageFeed):
    """One structure of each image and a sentence for it; in validation all, each by its first one.

    Args:
        sentences: of the foreground classes, in the order of their numbers.
        absent: share of the images that are asked for a class that they do not show.
        **options: of :class:`ImageFeed`.
    """

    def __init__(self, *options: Any, sentences: Sentences, absent: float, **more: Any) -> None:
        super().__init__(*options, **more)
        self.sentences = sentences
        self.absent = absent
        self.names = tuple(sentences.classes)
        self.key = f"{self.key} {sentences.sha256}"

    def training(self, epoch: int, first_step: int) -> Iterator[Batch]:
        for batch in super().training(epoch, first_step):
            random = [np.random.default_rng([*key, 2]) for key in batch["key"]]
            masks = batch["mask"].cpu().numpy()
            asked = [self._wanted(mask, each) for mask, each in zip(masks, random, strict=True)]
            batch["text"] = [
                self.sentences.draw(case, self.names[wanted - 1], each)
                for case, wanted, each in zip(batch["case_id"], asked, random, strict=True)
            ]
            mask = batch["mask"]
            wanted = torch.tensor(asked, dtype=mask.dtype, device=mask.device).view(-1, 1, 1)
            one = (mask == wanted).to(mask.dtype)
            batch["mask"] = one.masked_fill(mask == IGNORE, IGNORE)
            yield batch

    def validate(self, network: nn.Module, autocast: Autocast) -> tuple[float, ...]:
        assert isinstance(network, TextNetwork)
        return super().validate(Asked(network, self.sentences.first), autocast)

    def _wanted(self, mask: NDArray[np.uint8], random: np.random.Generator) -> int:
        """A class that the mask shows, any with the same probability; of a mask that shows none,
        and for a share of the others, one that it does not show."""
        shown = np.setdiff1d(mask, [0, IGNORE])
        others = np.setdiff1d(np.arange(1, len(self.names) + 1), shown)
        elsewhere = len(others) and random.random() < self.absent
        return int(random.choice(others if elsewhere or not len(shown) else shown))
