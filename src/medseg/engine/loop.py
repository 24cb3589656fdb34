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

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from medseg.engine.average import WeightAverage
from medseg.engine.checkpoint import (
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from medseg.engine.device import out_of_memory_advice
from medseg.engine.distributed import synchronise_batch_norm
from medseg.engine.feed import Feed
from medseg.engine.progress import TrainingProgress
from medseg.errors import MedsegError, ModelError
from medseg.files import write_text
from medseg.methods.method import Batch, Method
from medseg.metrics.fairness import equity_scaled
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
    """Trains a method on what a feed gives and keeps the run folder up to date.

    Writes ``checkpoints/last.safetensors`` (everything a resume needs),
    ``checkpoints/best.safetensors`` (the averaged network with the best validation Dice) and
    ``metrics.jsonl`` (a line an epoch).

    Args:
        method: what is trained.
        recipe: fully resolved.
        feed: its batches.
        folder: the run.
        accelerator: device, precision and processes.
    """

    def __init__(
        self,
        method: Method,
        recipe: Recipe,
        feed: Feed,
        *,
        folder: Path,
        accelerator: Accelerator,
    ) -> None:
        settings = recipe.train
        assert isinstance(settings.epochs, int)
        assert isinstance(settings.patience, int)
        self.epochs = settings.epochs
        self.batch_size = feed.batch_size
        self.patience = settings.patience
        self.recipe = recipe
        self.feed = feed
        self.folder = folder
        self.accelerator = accelerator
        self.device: torch.device = accelerator.device
        self.steps_per_epoch = feed.steps_per_epoch
        self.steps = self.steps_per_epoch * self.epochs
        self.state = TrainingState(data=feed.key)
        self.history: list[dict[str, float]] = []
        self.stop_asked = False

        method.to(self.device, memory_format=feed.memory_format)  # type: ignore[call-overload]
        if accelerator.num_processes > 1:
            synchronise_batch_norm(method, self.device)
        self.method = method
        self.average = WeightAverage(method.shipped, settings.ema_decay)
        optimizers = method.make_optimizers()
        self.model, *prepared = accelerator.prepare(method, *optimizers.values())
        self.optimizers: dict[str, AcceleratedOptimizer] = dict(
            zip(optimizers, prepared, strict=True)
        )
        self.moved = {name: _parameters_of(method, each) for name, each in optimizers.items()}
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
        with (
            self._interruptible(),
            out_of_memory_advice(batch_size=self.batch_size, image_size=self.feed.size),
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
            for name, optimizer in self.optimizers.items():
                restore_optimizer(optimizer.optimizer, tensors.get(_optimizer_group(name), {}))
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
        self.model.train()
        before = saved = time.perf_counter()
        for batch in self.feed.training(state.epoch, state.step):
            losses = self._step(batch)
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

    def _step(self, batch: Batch) -> dict[str, float]:
        # Randomness inside a method (dropout ...) depends on the step alone, so a resumed run
        # draws what an uninterrupted one would have drawn.
        done = self.steps_done
        torch.manual_seed((self.recipe.seed * 1_000_003 + done) * 1_009 + self._rank)
        self.method.step, self.method.steps = done, self.steps
        rate = self.method.learning_rate(done, self.steps)
        values: dict[str, float] = {}
        for phase in self.method.phases:
            self.method.phase = phase
            optimizer = self.optimizers[phase]
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("lr_scale", 1.0)
            losses: dict[str, Tensor] = self.model(batch)
            total = torch.stack(list(losses.values())).sum()
            self.accelerator.backward(total)
            self.accelerator.clip_grad_norm_(self.moved[phase], self.recipe.train.clip_norm)
            optimizer.step()
            for each in self.optimizers.values():
                each.zero_grad()
            values |= {name: loss.detach().item() for name, loss in losses.items()}
        with torch.no_grad():
            self.method.after_step()
        self.average.update(self.method.shipped)
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
        scores = self.validate()
        dice = scores[self.feed.score]
        losses = {
            name: self._mean_over_processes(total / state.step)
            for name, total in state.losses.items()
        }
        row: dict[str, float] = {
            "epoch": state.epoch + 1,
            "loss": sum(losses.values()),
            **{f"loss_{name}": value for name, value in losses.items()},
            **scores,
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
                    {"epoch": state.epoch, self.feed.score: dice},
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
    def validate(self) -> dict[str, float]:
        """Mean Dice of the averaged network over the validation cases, by the feed's name of it;
        where they are of several groups also that of the worst and the equity-scaled one."""
        found = self.feed.validate(self.average.network, self.accelerator.autocast)
        total = torch.tensor(found, dtype=torch.float64)
        if self.accelerator.num_processes > 1:
            total = self.accelerator.reduce(total.to(self.device), "sum").cpu()
        overall, *groups = total.view(-1, 2)
        scores = {self.feed.score: float(overall[0] / overall[1])}
        there = [group for group in groups if group[1] > 0]
        if len(there) > 1:
            known = torch.stack(there).sum(0)
            means = [float(each[0] / each[1]) for each in there]
            scores[f"{self.feed.score}_worst_group"] = min(means)
            scores[f"{self.feed.score}_equity_scaled"] = equity_scaled(
                float(known[0] / known[1]), means
            )
        return scores

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
                **{
                    _optimizer_group(name): optimizer_tensors(optimizer.optimizer)
                    for name, optimizer in self.optimizers.items()
                },
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


def _optimizer_group(phase: str) -> str:
    """The group of a checkpoint that holds the state of a phase's optimizer."""
    return "optimizer" if phase == "main" else f"optimizer.{phase}"


def _parameters_of(method: Method, optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """The parameters that ``optimizer`` moves, in the method's order."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return [parameter for parameter in method.parameters() if id(parameter) in held]
