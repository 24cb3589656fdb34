"""Validating networks that are pointed at what they segment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from medseg.data.case import IGNORE
from medseg.data.loader import ordered_batches
from medseg.data.prompts import Prompts
from medseg.data.simulate_prompts import next_click
from medseg.engine.feed import Autocast, ImageFeed
from medseg.errors import DataError
from medseg.inference.logits import predicted_classes
from medseg.nn.prompts import PromptTensors


class PromptFeed(ImageFeed):
    """Images, and in validation a careful person who clicks in the middle of the largest error.

    Args:
        rounds: clicks on each structure of a case.
        **options: of :class:`ImageFeed`.

    Raises:
        DataError: no validation case shows anything to point at.
    """

    def __init__(self, *options: Any, rounds: int, **more: Any) -> None:
        super().__init__(*options, **more)
        self.rounds = rounds
        masks = (self.cache.masks[self.val[i : i + 1]] for i in range(len(self.val)))
        if not any(((mask > 0) & (mask != IGNORE)).any() for mask in masks):
            raise DataError(
                "validation part", "none of its cases shows a structure to point at",
                "Use another split or fold",
            )  # fmt: skip

    def validate(self, network: nn.Module, autocast: Autocast) -> tuple[float, int]:
        """Dice after 1 to ``rounds`` clicks, the mean over them, over a case's structures, and
        over the cases that show any."""
        total, count = 0.0, 0
        cases = self.val[self.rank :: self.processes]
        for raw in ordered_batches(self.cache, cases, batch_size=self.batch_size):
            batch = self._batch(raw, *self._on_device(raw))
            masks = batch["mask"].cpu().numpy()
            shown = [np.setdiff1d(mask, [0, IGNORE]) for mask in masks]
            owners = [index for index, classes in enumerate(shown) for _ in classes]
            truths = [masks[index] == k for index, classes in enumerate(shown) for k in classes]
            knowns = [masks[index] != IGNORE for index in owners]
            scores = np.zeros(len(owners))
            for start in range(0, len(owners), self.batch_size):
                part = slice(start, start + self.batch_size)
                scores[part] = self._scores(
                    network, autocast, batch["image"][owners[part]], truths[part], knowns[part]
                )
            for index, classes in enumerate(shown):
                if len(classes):
                    total += float(scores[np.equal(owners, index)].mean())
                    count += 1
        return total, count

    def _scores(
        self,
        network: nn.Module,
        autocast: Autocast,
        image: Tensor,
        truths: Sequence[NDArray[np.bool_]],
        knowns: Sequence[NDArray[np.bool_]],
    ) -> NDArray[np.float64]:
        """Mean Dice over the rounds, one number an image."""
        prompts = [Prompts()] * len(truths)
        answers = [np.zeros_like(truth) for truth in truths]
        previous: Tensor | None = None
        threshold = self.recipe.predict.threshold
        scores = np.zeros((self.rounds, len(truths)))
        for done in range(self.rounds):
            clicks = map(next_click, truths, answers, knowns)
            prompts = [
                before if click is None else before + Prompts(points=(click,))
                for before, click in zip(prompts, clicks, strict=True)
            ]
            with autocast():
                previous = network(image, PromptTensors.of(prompts, image, previous)).float()
            answers = list(predicted_classes(previous, threshold).cpu().numpy() == 1)
            scores[done] = [
                _dice(answer & known, truth)
                for answer, truth, known in zip(answers, truths, knowns, strict=True)
            ]
        return np.asarray(scores.mean(0))


def _dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return 2 * float(np.count_nonzero(a & b)) / (np.count_nonzero(a) + np.count_nonzero(b))
