"""Where the batches of a training come from, and how they are validated on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medseg.data.augment import Augment
from medseg.data.cache import CaseCache
from medseg.data.case import IGNORE
from medseg.data.groups import UNKNOWN, Grouping
from medseg.data.loader import (
    CachedBatch,
    ordered_batches,
    training_batches,
    two_stream_batches,
)
from medseg.inference.logits import predicted_classes
from medseg.methods.method import Batch
from medseg.recipe import Recipe

Autocast = Callable[[], AbstractContextManager[None]]


class Feed(ABC):
    """Gives a training its batches, and scores a network on the validation cases.

    What it gives depends on (seed, epoch, step) alone, and in every step all processes together
    see the same whatever their number: the loop resumes, and is distributed, by asking again.

    Attributes:
        key: of the cached data, so that a run is not resumed on other data.
        batch_size: images or patches a step over all processes.
        steps_per_epoch: how many whole batches an epoch has.
        size: of the image a network sees, in pixels or voxels by axis.
        memory_format: of the network's weights and images.
        score: what :meth:`validate` measures, as ``metrics.jsonl`` calls it.
        grouping: of the cases, if any; batches then say each case's group.
    """

    score: ClassVar[str] = "val_dice"
    key: str
    batch_size: int
    steps_per_epoch: int
    size: tuple[int, ...]
    memory_format: ClassVar[torch.memory_format] = torch.contiguous_format
    grouping: Grouping | None = None

    @abstractmethod
    def training(self, epoch: int, first_step: int) -> Iterator[Batch]:
        """This process's share of each batch, augmented, normalised, on the device.

        Args:
            epoch: counted from 0.
            first_step: where to begin in it, to resume in the middle.
        """

    @abstractmethod
    def validate(self, network: nn.Module, autocast: Autocast) -> tuple[float, ...]:
        """Score this process's share of the validation cases.

        A case's Dice is the mean over the foreground classes; a class that is empty in truth and
        prediction counts as 1. Ignored pixels do not count.

        Args:
            network: in evaluation mode; called without gradients.
            autocast: gives the context in which the network is called.

        Returns:
            The sum of the cases' Dice, and their number; with a grouping, the same of each group.
        """

    def totals(self, scores: Mapping[str, float]) -> tuple[float, ...]:
        """What :meth:`validate` returns of the scores of these cases, by id."""
        chosen = [list(scores.values())]
        if self.grouping is not None:
            numbers = self.grouping.numbers
            chosen += [
                [score for case, score in scores.items() if numbers.get(case) == group]
                for group in range(len(self.grouping.names))
            ]
        return tuple(each for part in chosen for each in (sum(part), len(part)))

    def groups(self, cases: Sequence[str], device: torch.device) -> Tensor:
        """``(B,)`` numbers of the cases' groups."""
        numbers = {} if self.grouping is None else self.grouping.numbers
        return torch.tensor([numbers.get(case, UNKNOWN) for case in cases], device=device)


class ImageFeed(Feed):
    """Cached 2D images.

    Args:
        recipe: fully resolved.
        cache: holds the training and validation cases.
        train: places of the labelled training cases in the cache.
        val: places of the validation cases.
        unlabelled: places of training cases of which nothing but the image is given; half of
            each batch is then taken from them.
        normalisation: mean and standard deviation of each channel, on the scale 0..1.
        device: where batches lie.
        rank: of this process.
        processes: that share each step.
    """

    memory_format = torch.channels_last

    def __init__(
        self,
        recipe: Recipe,
        cache: CaseCache,
        *,
        train: NDArray[np.int64],
        val: NDArray[np.int64],
        unlabelled: NDArray[np.int64] | None = None,
        normalisation: tuple[tuple[float, ...], tuple[float, ...]],
        device: torch.device,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        assert isinstance(recipe.train.batch_size, int)
        self.batch_size = recipe.train.batch_size
        self.recipe = recipe
        self.cache = cache
        self.train = train
        self.val = val
        self.unlabelled = unlabelled
        self.device = device
        self.rank = rank
        self.processes = processes
        self.augment = Augment(recipe.augment)
        self.mean, self.std = (
            torch.tensor(values, device=device).view(1, -1, 1, 1) for values in normalisation
        )
        self.key = cache.folder.name
        self.size = (recipe.data.pixels, recipe.data.pixels)
        labelled = self.batch_size if unlabelled is None else self.batch_size // 2
        self.steps_per_epoch = len(train) // labelled

    def training(self, epoch: int, first_step: int) -> Iterator[Batch]:
        where = {
            "batch_size": self.batch_size,
            "seed": self.recipe.seed,
            "epoch": epoch,
            "first_step": first_step,
            "rank": self.rank,
            "processes": self.processes,
        }
        if self.unlabelled is None:
            batches = training_batches(self.cache, self.train, **where)
        else:
            batches = two_stream_batches(self.cache, self.train, self.unlabelled, **where)
        for raw in batches:
            image, mask = self._on_device(raw)
            keys = [(self.recipe.seed, epoch, position) for position in raw.position]
            image, mask = self.augment(image, mask, keys)
            batch = self._batch(raw, image, mask)
            batch["key"] = keys
            if self.unlabelled is not None:
                labelled = torch.arange(len(mask), device=self.device) < len(mask) // 2
                # Whatever the cache holds of them, their masks are not for training.
                mask[~labelled] = IGNORE
                batch["labelled"] = labelled
            yield batch

    def validate(self, network: nn.Module, autocast: Autocast) -> tuple[float, ...]:
        found, cases = {}, self.val[self.rank :: self.processes]
        for raw in ordered_batches(self.cache, cases, batch_size=self.batch_size):
            batch = self._batch(raw, *self._on_device(raw))
            with autocast():
                logits = network(batch["image"])
            classes = predicted_classes(logits.float(), self.recipe.predict.threshold)
            foreground = range(1, max(2, logits.shape[1]))
            classes[batch["mask"] == IGNORE] = IGNORE
            pairs = zip(raw.case_id, classes.cpu(), batch["mask"].cpu(), strict=True)
            for case, predicted, truth in pairs:
                scores = [_dice(predicted == k, truth == k) for k in foreground]
                found[case] = sum(scores) / len(scores)
        return self.totals(found)

    def _on_device(self, raw: CachedBatch) -> tuple[Tensor, Tensor]:
        return raw.image.to(self.device).float().div_(255), raw.mask.to(self.device)

    def _batch(self, raw: CachedBatch, image: Tensor, mask: Tensor) -> Batch:
        image = image.sub(self.mean).div_(self.std).contiguous(memory_format=self.memory_format)
        batch: Batch = {"image": image, "mask": mask, "case_id": raw.case_id}
        if self.grouping is not None:
            batch["group"] = self.groups(raw.case_id, self.device)
        return batch


def _dice(a: Tensor, b: Tensor) -> float:
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0
