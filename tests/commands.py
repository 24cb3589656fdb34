"""Running medseg's command line as its user does, without the price of a new process."""

from __future__ import annotations

import csv
import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from medseg.cli import main

TINY = (
    "--image-size", "16", "--epochs", "1", "--batch-size", "2", "--device", "cpu",
    "--set", "network.widths=[8,8,8]", "--set", "network.depths=[1,1]",
    "--set", "network.kernel=3",
)  # fmt: skip
"""Options of `medseg train` with which an epoch takes less than a second."""


class Result(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """What was said on stderr, as one line."""
        return " ".join(self.err.split())


def medseg(*arguments: object) -> Result:
    """Run ``medseg ARGUMENTS`` in this process, on a terminal too wide to wrap anything.

    What the command line does not turn into a message is raised here, as the traceback that a
    user would see.
    """
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        mock.patch.object(sys, "argv", ["medseg", *map(str, arguments)]),
        mock.patch.dict("os.environ", COLUMNS="500", TERM="dumb"),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    return Result(code, out.getvalue(), err.getvalue())


def left_in(folder: Path) -> set[str]:
    """All files and empty folders below ``folder``, by their relative paths."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() or not any(path.iterdir())
    }


def parts_of(run: Path) -> dict[str, set[str]]:
    """The case ids of each part of a run's split."""
    with (run / "split.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        part: {row["case"] for row in rows if row["split"] == part}
        for part in ("train", "val", "test")
    }
