"""Batches of patches of volumes, and scores of whole volumes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from medseg.data.augment3d import Augment3d
from medseg.data.case import IGNORE
from medseg.data.volumes.cache import VolumeCache
from medseg.data.volumes.patches import (
    CachedPatches,
    Sampling,
    training_patches,
    unlabelled_patches,
)
from medseg.data.volumes.resample import Triple
from medseg.engine.feed import Autocast, Feed
from medseg.inference.logits import predicted_classes
from medseg.inference.volumes.geometry import padding
from medseg.inference.volumes.sliding import Windows, slide
from medseg.methods.method import Batch
from medseg.recipe import Recipe


class VolumeFeed(Feed):
    """Patches of cached volumes; validation goes over whole volumes, window by window.

    Args:
        recipe: fully resolved.
        cache: holds the training and validation volumes.
        train: places of the labelled training volumes in the cache.
        val: places of the validation volumes.
        unlabelled: places of volumes of which nothing but the image is given; half of each batch
            is then taken from them.
        spacing: of the cached volumes in mm; None where it is unknown.
        device: where batches lie.
        rank: of this process.
        processes: that share each step.
    """

    def __init__(
        self,
        recipe: Recipe,
        cache: VolumeCache,
        *,
        train: NDArray[np.int64],
        val: NDArray[np.int64],
        unlabelled: NDArray[np.int64] | None = None,
        spacing: Triple | None,
        device: torch.device,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        assert isinstance(recipe.train.batch_size, int)
        assert isinstance(recipe.data.patches_per_volume, int)
        self.batch_size = recipe.train.batch_size
        self.recipe = recipe
        self.cache = cache
        self.train = train
        self.val = val
        self.unlabelled = unlabelled
        self.device = device
        self.rank = rank
        self.processes = processes
        self.augment = Augment3d(recipe.augment3d, spacing)
        self.key = cache.folder.name
        self.size = recipe.data.patch_size
        self.sampling = Sampling(
            recipe.data.patch_size,
            recipe.data.patches_per_volume,
            recipe.data.foreground_patches,
            recipe.seed,
        )
        self.labelled = self.batch_size if unlabelled is None else self.batch_size // 2
        self.patches = len(train) * recipe.data.patches_per_volume
        self.steps_per_epoch = self.patches // self.labelled

    def training(self, epoch: int, first_step: int) -> Iterator[Batch]:
        labelled = training_patches(
            self.cache,
            self.train,
            self.sampling,
            batch_size=self.labelled,
            epoch=epoch,
            first_step=first_step,
            rank=self.rank,
            processes=self.processes,
        )
        for step, raw in enumerate(labelled, start=first_step):
            batch = self._batch(raw, epoch)
            if self.unlabelled is not None:
                others = unlabelled_patches(
                    self.cache,
                    self.unlabelled,
                    self.sampling,
                    share=self.labelled // self.processes,
                    epoch=epoch,
                    step=step,
                    steps=self.steps_per_epoch,
                    rank=self.rank,
                    processes=self.processes,
                    offset=self.patches,
                )
                batch = _two_streams(batch, self._batch(others, epoch))
            yield batch

    def validate(self, network: nn.Module, autocast: Autocast) -> tuple[float, ...]:
        found, rows = {}, self.val[self.rank :: self.processes]
        for row in rows:
            truth = torch.from_numpy(np.array(self.cache.mask(int(row)))).to(self.device)
            planes = self.logits(int(row), network, autocast)
            dice = _dice_of_planes(planes, truth, self.recipe.predict.threshold)
            found[self.cache.ids[int(row)]] = dice
        return self.totals(found)

    def logits(self, row: int, network: nn.Module, autocast: Autocast) -> Iterator[Tensor]:
        """The logits (K, H, W) of each slice of a cached volume, float32.

        Args:
            row: of the cache.
            network: in evaluation mode; called without gradients.
            autocast: gives the context in which the network is called.
        """
        image = torch.from_numpy(np.array(self.cache.image(row))).to(self.device).float()
        slices, height, width = image.shape[1:]
        pads = padding((slices, height, width), self.sampling.patch)
        (before, _), (above, _), (beside, _) = pads
        padded = F.pad(image, [each for pair in reversed(pads) for each in pair])
        shape = (padded.shape[1], padded.shape[2], padded.shape[3])
        windows = Windows(shape, self.sampling.patch, self.recipe.predict.overlap)

        def called(crops: Tensor) -> Tensor:
            with torch.no_grad(), autocast():
                found: Tensor = network(crops)
            return found

        for index, plane in enumerate(slide(called, padded, windows, batch=1)):
            if before <= index < before + slices:
                yield plane[:, above : above + height, beside : beside + width]

    def _batch(self, raw: CachedPatches, epoch: int) -> Batch:
        image = raw.image.to(self.device).float()
        keys = [(self.recipe.seed, epoch, position) for position in raw.position]
        image, mask = self.augment(image, raw.mask.to(self.device), keys)
        batch: Batch = {"image": image, "mask": mask, "case_id": raw.case_id}
        if self.grouping is not None:
            batch["group"] = self.groups(raw.case_id, self.device)
        return batch


def _two_streams(labelled: Batch, unlabelled: Batch) -> Batch:
    """A batch of both; what is known of the masks of the second half is taken away."""
    image = torch.cat([labelled["image"], unlabelled["image"]])
    hidden = torch.full_like(unlabelled["mask"], IGNORE)
    known = torch.arange(len(image), device=image.device) < len(labelled["image"])
    batch: Batch = {
        "image": image,
        "mask": torch.cat([labelled["mask"], hidden]),
        "case_id": (*labelled["case_id"], *unlabelled["case_id"]),
        "labelled": known,
    }
    if "group" in labelled:
        batch["group"] = torch.cat([labelled["group"], unlabelled["group"]])
    return batch


def _dice_of_planes(planes: Iterator[Tensor], truth: Tensor, threshold: float) -> float:
    """The mean over the foreground classes of a volume's Dice."""
    counts: Tensor | None = None
    for logits, mask in zip(planes, truth, strict=True):
        classes = predicted_classes(logits[None], threshold)[0]
        known = mask != IGNORE
        if counts is None:
            counts = torch.zeros(max(2, len(logits)), 3, dtype=torch.int64)
        for k in range(1, len(counts)):
            found, wanted = (classes == k) & known, mask == k
            counts[k] += torch.stack([(found & wanted).sum(), found.sum(), wanted.sum()]).cpu()
    assert counts is not None
    both, found, wanted = counts[1:].double().unbind(1)
    total = found + wanted
    return float(torch.where(total > 0, 2 * both / total.clamp_min(1), 1.0).mean())
