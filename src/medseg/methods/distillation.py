"""Knowledge distillation: a network learns from the masks and from a trained network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.data.case import IGNORE, Split
from medseg.data.splitfile import read_split
from medseg.errors import ModelError, RecipeError, plural
from medseg.inference.bundle import Manifest
from medseg.inference.network import load_network
from medseg.methods.method import Batch, TrainingData
from medseg.methods.supervised import Supervised
from medseg.recipe import Recipe


class Distillation(Supervised):
    """The losses of :class:`Supervised`, and the distance to a teacher's probabilities.

    The teacher, of any system and image size, sees the same augmented images. Where it has learnt
    from images that validate or test here it is refused, since it would pass on what it knows.

    Args:
        network: the student.
        recipe: fully resolved.
        teacher: a finished run, or its model.
        temperature: both networks' logits are divided by it for this loss, at least 1.
        weight: of this loss.

    Source:
        Hinton, Vinyals, Dean 2015 (arXiv 1503.02531), for each pixel.

    Raises:
        ModelError: the teacher cannot be read.
        RecipeError: no teacher, or a temperature or weight that makes no sense.
    """

    scale: Tensor
    offset: Tensor

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        *,
        teacher: str = "",
        temperature: float = 2.0,
        weight: float = 1.0,
    ) -> None:
        super().__init__(network, recipe)
        if not teacher:
            raise RecipeError(
                "method_options.teacher",
                "no teacher is named",
                "Name a finished run: --set method_options.teacher=RUN",
            )
        if temperature < 1 or weight <= 0:
            raise RecipeError(
                "method_options",
                f"temperature {temperature:g}, weight {weight:g}",
                "Give a temperature of at least 1 and a weight above 0",
            )
        self.temperature = temperature
        self.weight = weight
        self.source = Path(teacher)
        model = load_network(self.source, device="cpu")
        self.manifest: Manifest = model.manifest
        self.teacher = model.network
        settings = self.manifest.preprocessing
        self.size = settings.image_size
        # From the student's normalisation to the teacher's; set by prepare.
        self.register_buffer("scale", torch.ones(1, settings.channels, 1, 1), persistent=False)
        self.register_buffer("offset", torch.zeros(1, settings.channels, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> Self:
        """The teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def prepare(self, data: TrainingData) -> None:
        where = f"method_options.teacher {self.source}"
        settings = self.manifest.preprocessing
        if (self.manifest.num_classes, settings.channels) != (data.num_classes, len(data.mean)):
            raise RecipeError(
                where,
                f"it has {plural(self.manifest.num_classes, 'logit')} and takes "
                f"{plural(settings.channels, 'channel')}; here there are {data.num_classes} and "
                f"{len(data.mean)}",
                "Name a teacher of the same classes and channels",
            )
        learnt = parts_of_teacher(self.source, self.manifest)
        wrong = [
            case
            for case, image in data.images.items()
            if (part := data.split.get(case, "train")) != "train"
            and image in learnt
            and not (part == learnt[image] == "val")
        ]
        if wrong:
            raise RecipeError(
                where,
                f"its split differs: it has learnt from {plural(len(wrong), 'image')} that "
                f"validate or test here ({', '.join(wrong[:3])}{' ...' if len(wrong) > 3 else ''})",
                f"Train both with the same split: --split {self.source / 'split.csv'}",
            )
        mean, std, mine, deviation = (
            torch.tensor(values).view(1, -1, 1, 1)
            for values in (settings.mean, settings.std, data.mean, data.std)
        )
        self.scale.copy_(deviation / std)
        self.offset.copy_((mine - mean) / std)

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        logits, losses = self.losses(batch)
        with torch.no_grad():
            taught = self.teach(batch["image"])
        loss = distillation_loss(logits, taught, batch["mask"], temperature=self.temperature)
        losses["distillation"] = self.weight * loss
        return losses

    def teach(self, image: Tensor) -> Tensor:
        """The teacher's logits ``(B, K, H, W)`` for the student's image ``(B, C, H, W)``."""
        size = image.shape[-2:]
        seen = image * self.scale + self.offset
        if size != (self.size, self.size):
            seen = F.interpolate(seen, size=(self.size, self.size), mode="bilinear", antialias=True)
        logits: Tensor = self.teacher(seen.to(image.dtype)).float()
        if logits.shape[-2:] != size:
            logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return logits


def parts_of_teacher(source: Path, manifest: Manifest) -> Mapping[str, Split]:
    """The images that a model was trained or validated on, by hash, and in which of the two parts.

    A model without its run does not tell the parts apart: all are said to be for training.

    Raises:
        ModelError: the run lacks its split or the hashes of its images.
    """
    if not source.is_dir():
        return dict.fromkeys(map(str, manifest.data.get("seen", ())), "train")
    file = source / "data.json"
    try:
        images = json.loads(file.read_text(encoding="utf-8"))["images"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(file, f"it cannot be read ({error})", "Restore the run") from error
    parts = read_split(source / "split.csv").parts
    return {images[case]: part for case, part in parts.items() if part != "test" and case in images}


def distillation_loss(
    logits: Tensor, taught: Tensor, mask: Tensor, *, temperature: float
) -> Tensor:
    """``T^2`` times the Kullback-Leibler divergence of the teacher's distribution from the
    student's, both at temperature T: the mean over images of the mean over known pixels.

    Args:
        logits: ``(B, K, H, W)`` of the student.
        taught: likewise, of the teacher.
        mask: ``(B, H, W)``; pixels that are ``IGNORE`` do not count.
        temperature: T.
    """
    mine, theirs = (log_shares(each / temperature) for each in (logits, taught))
    each = (theirs.exp() * (theirs - mine)).sum(1)
    known = mask != IGNORE
    image = tuple(range(1, mask.ndim))
    return temperature**2 * ((each * known).sum(image) / known.sum(image).clamp_min(1)).mean()


def log_shares(logits: Tensor) -> Tensor:
    """Logarithms of the probabilities of all classes, ``(B, max(2, K), H, W)``."""
    if logits.shape[1] == 1:
        return torch.cat([F.logsigmoid(-logits), F.logsigmoid(logits)], dim=1)
    return torch.log_softmax(logits, dim=1)
