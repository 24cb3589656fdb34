"""Progress in the terminal: a bar with time left, or plain lines where there is no terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class TrainingProgress:
    """A bar over all steps with the current loss, validation score, speed and time left.

    Args:
        console: where to draw.
        steps: of the whole training.
        done: steps already taken, when resuming.
        epochs: of the whole training.
        quiet: draw nothing at all.
    """

    def __init__(
        self, console: Console, *, steps: int, done: int, epochs: int, quiet: bool = False
    ) -> None:
        self.console = console
        self.epochs = epochs
        self.quiet = quiet
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=None),
            TextColumn("loss {task.fields[loss]}  {task.fields[score]}"),
            TextColumn("{task.fields[speed]} images/s"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self.task = self.progress.add_task(
            "train",
            total=steps,
            completed=done,
            epoch=1,
            epochs=epochs,
            loss="-",
            score="",
            speed="-",
        )

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def step(self, epoch: int, loss: float, images_per_second: float) -> None:
        """One optimizer step was taken in ``epoch`` (counted from 0)."""
        self.progress.update(
            self.task,
            advance=1,
            epoch=epoch + 1,
            loss=f"{loss:.3f}",
            speed=f"{images_per_second:.1f}",
        )

    def epoch(self, row: dict[str, float], best: bool) -> None:
        """An epoch ended with the metrics ``row``."""
        name = next(key for key in row if key.startswith("val_"))
        score = f"{name.replace('_', ' ').replace('dice', 'Dice')} {row[name]:.4f}"
        if (worst := row.get(f"{name}_worst_group")) is not None:
            score += f", worst group {worst:.4f}"
        self.progress.update(self.task, score=score)
        if not self.quiet and not self.console.is_terminal:
            self.console.print(
                f"epoch {row['epoch']:.0f}/{self.epochs}  loss {row['loss']:.4f}  "
                f"{score}{' *' if best else ''}  "
                f"{row['images_per_second']:.1f} images/s  {row['seconds']:.0f} s",
                highlight=False,
            )


def counting_bar(console: Console) -> Progress:
    """A bar over counted things (files, images) with time left; for use as a context manager."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
