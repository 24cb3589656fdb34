"""The training loop: any method, any device, resumable to the bit."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from medseg.data.augment import Augment
from medseg.data.cache import CaseCache
from medseg.data.case import IGNORE
from medseg.data.loader import CachedBatch, ordered_batches, training_batches
from medseg.engine.average import WeightAverage
from medseg.engine.checkpoint import (
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from medseg.engine.device import out_of_memory_advice
from medseg.engine.distributed import synchronise_batch_norm
from medseg.engine.progress import TrainingProgress
from medseg.errors import MedsegError, ModelError
from medseg.files import write_text
from medseg.inference.logits import predicted_classes
from medseg.methods.method import Batch, Method
from medseg.recipe import Recipe

# Long epochs are also saved on the way, so that a killed run loses minutes, not hours.
SECONDS_BETWEEN_SAVES = 600.0


@dataclass
class TrainingState:
    """Where a training stands; with the weights, all that a resumed run needs.

    Attributes:
        epoch: the current one, counted from 0.
        step: steps taken in it.
        best_dice: best validation Dice so far.
        best_epoch: when it was reached, counted from 0; -1 before the first validation.
        losses: sums of the named losses over the epoch's steps.
        seconds: that the epoch's steps have taken.
        average_updates: of the averaged weights.
        scaler: of the gradients, in fp16.
        data: key of the cached data, so that a run is not resumed on other data.
    """

    data: str
    epoch: int = 0
    step: int = 0
    best_dice: float = -1.0
    best_epoch: int = -1
    losses: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    average_updates: int = 0
    scaler: dict[str, float] = field(default_factory=dict)


class Interrupted(Exception):  # noqa: N818 - a request, not an error
    """The user asked to stop (SIGINT) and the state has been saved."""


class TrainingLoop:
    """Trains a method on cached cases and keeps the run folder up to date.

    Writes ``checkpoints/last.safetensors`` (everything a resume needs),
    ``checkpoints/best.safetensors`` (the averaged network with the best validation Dice) and
    ``metrics.jsonl`` (a line an epoch).

    Args:
        method: what is trained.
        recipe: fully resolved.
        cache: holds the training and validation cases.
        train_rows: places of the training cases in the cache.
        val_rows: places of the validation cases.
        normalisation: mean and standard deviation of each channel, on the scale 0..1.
        folder: the run.
        accelerator: device, precision and processes.
    """

    def __init__(
        self,
        method: Method,
        recipe: Recipe,
        cache: CaseCache,
        *,
        train_rows: NDArray[np.int64],
        val_rows: NDArray[np.int64],
        normalisation: tuple[tuple[float, ...], tuple[float, ...]],
        folder: Path,
        accelerator: Accelerator,
    ) -> None:
        settings = recipe.train
        assert isinstance(settings.epochs, int)
        assert isinstance(settings.batch_size, int)
        assert isinstance(settings.patience, int)
        self.epochs = settings.epochs
        self.batch_size = settings.batch_size
        self.patience = settings.patience
        self.recipe = recipe
        self.cache = cache
        self.train_rows = train_rows
        self.val_rows = val_rows
        self.folder = folder
        self.accelerator = accelerator
        self.device: torch.device = accelerator.device
        self.augment = Augment(recipe.augment)
        mean, std = (
            torch.tensor(values, device=self.device).view(1, -1, 1, 1) for values in normalisation
        )
        self.mean, self.std = mean, std
        self.steps_per_epoch = len(train_rows) // self.batch_size
        self.steps = self.steps_per_epoch * self.epochs
        self.state = TrainingState(data=cache.folder.name)
        self.history: list[dict[str, float]] = []
        self.stop_asked = False

        method.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if accelerator.num_processes > 1:
            synchronise_batch_norm(method, self.device)
        self.method = method
        self.average = WeightAverage(method.network, settings.ema_decay)
        self.model, self.optimizer = accelerator.prepare(method, method.make_optimizer())
        self.tensorboard = self._open_tensorboard() if settings.tensorboard else None

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.folder / "checkpoints" / "last.safetensors"

    @property
    def best(self) -> Path:
        """The network with the best validation Dice."""
        return self.folder / "checkpoints" / "best.safetensors"

    def run(self, progress: TrainingProgress) -> TrainingState:
        """Train until the last epoch or until validation stops improving.

        Returns:
            The final state; ``best`` then holds the chosen network.

        Raises:
            Interrupted: on SIGINT, after the state was saved.
            MedsegError: out of memory, a loss that is not finite, or a full disk.
        """
        size = self.recipe.data.pixels
        with (
            self._interruptible(),
            out_of_memory_advice(batch_size=self.batch_size, image_size=size),
        ):
            while self.state.epoch < self.epochs and not self._out_of_patience():
                self._train_epoch(progress)
                self._end_epoch(progress)
        return self.state

    def resume(self) -> None:
        """Continue from ``last``.

        Raises:
            ModelError: unreadable, or made from other data or another network.
        """
        tensors, state = load_checkpoint(self.last)
        restored = TrainingState(**state)
        if restored.data != self.state.data:
            raise ModelError(
                self.folder,
                "the data has changed since this run began",
                "Start a new run with another -o",
            )
        try:
            self.method.load_state_dict(tensors["method"])
            self.average.network.load_state_dict(tensors["average"])
            restore_optimizer(self.optimizer.optimizer, tensors.get("optimizer", {}))
        except (KeyError, ValueError, RuntimeError) as error:
            raise ModelError(
                self.last, f"it does not fit the recipe ({error})", "Start a new run"
            ) from error
        self.state = restored
        self.average.updates = restored.average_updates
        if self.accelerator.scaler is not None and restored.scaler:
            self.accelerator.scaler.load_state_dict(restored.scaler)
        metrics = self.folder / "metrics.jsonl"
        lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.is_file() else []
        try:
            self.history = [json.loads(line) for line in lines[: restored.epoch]]
        except ValueError as error:
            raise ModelError(
                metrics, f"it is damaged ({error})", "Restore it, or start a new run"
            ) from error

    @property
    def steps_done(self) -> int:
        """Optimizer steps taken so far."""
        return self.state.epoch * self.steps_per_epoch + self.state.step

    def _train_epoch(self, progress: TrainingProgress) -> None:
        state = self.state
        batches = training_batches(
            self.cache,
            self.train_rows,
            batch_size=self.batch_size,
            seed=self.recipe.seed,
            epoch=state.epoch,
            first_step=state.step,
            rank=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )
        self.model.train()
        before = saved = time.perf_counter()
        for raw in batches:
            losses = self._step(self._prepare(raw, augment=True))
            for name, value in losses.items():
                state.losses[name] = state.losses.get(name, 0.0) + value
            state.step += 1
            now = time.perf_counter()
            state.seconds += now - before
            before = now
            speed = state.step * self.batch_size / state.seconds
            progress.step(state.epoch, sum(state.losses.values()) / state.step, speed)
            stop = self._anyone(self.stop_asked)
            if stop or now - saved > SECONDS_BETWEEN_SAVES:
                self.save()
                saved = now
            if stop:
                raise Interrupted

    def _prepare(self, raw: CachedBatch, *, augment: bool) -> Batch:
        image = raw.image.to(self.device).float().div_(255)
        mask = raw.mask.to(self.device)
        if augment:
            keys = [(self.recipe.seed, self.state.epoch, position) for position in raw.position]
            image, mask = self.augment(image, mask, keys)
        image = image.sub(self.mean).div_(self.std).contiguous(memory_format=torch.channels_last)
        return {"image": image, "mask": mask, "case_id": raw.case_id}

    def _step(self, batch: Batch) -> dict[str, float]:
        # Randomness inside a method (dropout ...) depends on the step alone, so a resumed run
        # draws what an uninterrupted one would have drawn.
        done = self.steps_done
        torch.manual_seed((self.recipe.seed * 1_000_003 + done) * 1_009 + self._rank)
        for group in self.optimizer.param_groups:
            group["lr"] = self.method.learning_rate(done, self.steps)
        losses: dict[str, Tensor] = self.model(batch)
        total = torch.stack(list(losses.values())).sum()
        self.accelerator.backward(total)
        self.accelerator.clip_grad_norm_(self.method.parameters(), self.recipe.train.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update(self.method.network)
        values = {name: loss.detach().item() for name, loss in losses.items()}
        if not all(map(math.isfinite, values.values())):
            raise MedsegError(
                f"epoch {self.state.epoch + 1}, step {self.state.step + 1}",
                f"the loss is not finite ({values})",
                "Lower optimizer.learning_rate or use fp32; the last checkpoint is kept",
            )
        return values

    @property
    def _rank(self) -> int:
        return int(self.accelerator.process_index)

    def _end_epoch(self, progress: TrainingProgress) -> None:
        state = self.state
        dice = self.validate()
        losses = {
            name: self._mean_over_processes(total / state.step)
            for name, total in state.losses.items()
        }
        row: dict[str, float] = {
            "epoch": state.epoch + 1,
            "loss": sum(losses.values()),
            **{f"loss_{name}": value for name, value in losses.items()},
            "val_dice": dice,
            "lr": self.method.learning_rate(self.steps_done - 1, self.steps),
            "images_per_second": state.step * self.batch_size / state.seconds,
            "seconds": state.seconds,
        }
        self.history.append(row)
        better = dice > state.best_dice
        if better:
            state.best_dice, state.best_epoch = dice, state.epoch
            if self.accelerator.is_main_process:
                save_checkpoint(
                    self.best,
                    {"network": self.average.network.state_dict()},
                    {"epoch": state.epoch, "val_dice": dice},
                )
        state.epoch += 1
        state.step, state.seconds, state.losses = 0, 0.0, {}
        if self.accelerator.is_main_process:
            lines = "".join(json.dumps(entry) + "\n" for entry in self.history)
            write_text(self.folder / "metrics.jsonl", lines)
        self.save()
        if self.tensorboard is not None:
            for name, value in row.items():
                self.tensorboard.add_scalar(name, value, state.epoch)
        progress.epoch(row, better)

    @torch.no_grad()
    def validate(self) -> float:
        """Mean Dice of the averaged network over the validation cases, at the network's size.

        A case's Dice is the mean over the foreground classes; a class that is empty in truth and
        prediction counts as 1. Ignored pixels do not count.
        """
        total = torch.zeros(2, dtype=torch.float64)
        mine = self.val_rows[self._rank :: self.accelerator.num_processes]
        for raw in ordered_batches(self.cache, mine, batch_size=self.batch_size):
            batch = self._prepare(raw, augment=False)
            with self.accelerator.autocast():
                logits = self.average.network(batch["image"])
            classes = predicted_classes(logits.float(), self.recipe.predict.threshold)
            foreground = range(1, max(2, logits.shape[1]))
            classes[batch["mask"] == IGNORE] = IGNORE
            for predicted, truth in zip(classes.cpu(), batch["mask"].cpu(), strict=True):
                scores = [_dice(predicted == k, truth == k) for k in foreground]
                total += torch.tensor([sum(scores) / len(scores), 1.0], dtype=torch.float64)
        if self.accelerator.num_processes > 1:
            total = self.accelerator.reduce(total.to(self.device), "sum").cpu()
        return float(total[0] / total[1])

    def save(self) -> None:
        """Write everything a resume needs."""
        if not self.accelerator.is_main_process:
            return
        self.state.average_updates = self.average.updates
        if self.accelerator.scaler is not None:
            self.state.scaler = self.accelerator.scaler.state_dict()
        save_checkpoint(
            self.last,
            {
                "method": self.method.state_dict(),
                "average": self.average.network.state_dict(),
                "optimizer": optimizer_tensors(self.optimizer.optimizer),
            },
            vars(self.state),
        )

    def best_network(self) -> nn.Module:
        """The averaged network of the best epoch, on the CPU."""
        tensors, _ = load_checkpoint(self.best)
        network = self.average.network.cpu()
        network.load_state_dict(tensors["network"])
        return network

    def _out_of_patience(self) -> bool:
        return self.state.epoch - 1 - self.state.best_epoch >= self.patience

    def _anyone(self, value: bool) -> bool:
        """Whether ``value`` holds in any process; all must stop at the same step."""
        if self.accelerator.num_processes == 1:
            return value
        flag = torch.tensor(float(value), device=self.device)
        return float(self.accelerator.reduce(flag, "sum")) > 0

    def _mean_over_processes(self, value: float) -> float:
        if self.accelerator.num_processes == 1:
            return value
        tensor = torch.tensor(value, device=self.device)
        return float(self.accelerator.reduce(tensor, "mean"))

    def _open_tensorboard(self) -> Any:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MedsegError(
                "train.tensorboard", "tensorboard is not installed", "pip install 'medseg[track]'"
            ) from error
        return SummaryWriter(self.folder / "tensorboard")

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let the first SIGINT finish the step and save; a second one stops at once."""

        def ask(signum: int, frame: FrameType | None) -> None:
            if self.stop_asked:
                raise KeyboardInterrupt
            self.stop_asked = True

        try:
            before = signal.signal(signal.SIGINT, ask)
        except ValueError:
            # Only the main thread may handle signals; elsewhere SIGINT keeps its meaning.
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def _dice(a: Tensor, b: Tensor) -> float:
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0
