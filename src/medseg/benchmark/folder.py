"""The folder of a benchmark's results: whose it is, and what in it still holds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from medseg.benchmark.check import Checked
from medseg.benchmark.grid import Cell
from medseg.benchmark.spec import Spec, read_yaml
from medseg.errors import MedsegError
from medseg.files import write_text

# What is there before the specification is.
_OWN = {".lock", "splits"}


def check_folder(folder: Path, spec: Spec, cells: list[Cell]) -> None:
    """Make sure that the results in ``folder``, if any, are of ``spec``.

    What a system's file or a dataset holds may change as long as nothing finished rests on it.
    """
    before = _stored(folder)
    if before is None:
        strangers = {entry.name for entry in folder.iterdir()} - _OWN if folder.is_dir() else set()
        if strangers:
            raise MedsegError(
                f"-o {folder}", f"it holds {', '.join(sorted(strangers)[:3])}, no benchmark",
                "Choose another folder",
            )  # fmt: skip
        return
    now = spec.dump()
    rested = {("systems", cell.system.name) for cell in cells if cell.finished}
    rested |= {("data", cell.data.name) for cell in cells if cell.finished}
    if rested:
        rested |= {("unseen", entry.name) for entry in spec.unseen}
    changed = []
    for key in now:
        one, two = before[key], now[key]
        if key in ("systems", "data", "unseen"):
            one, two = ([_identity(key, each, rested) for each in many] for many in (one, two))
            names = [each["name"] for each in two]
            if names == [each["name"] for each in one]:
                pairs = zip(names, one, two, strict=True)
                changed += [f"{key}: {name}" for name, a, b in pairs if not _alike(a, b)]
                continue
        if one != two:
            changed.append(key)
    if changed:
        raise MedsegError(
            f"-o {folder}",
            f"it holds results of another benchmark, which differs in {', '.join(changed)}",
            "Choose another folder with -o",
        )


def _stored(folder: Path) -> dict[str, Any] | None:
    """The specification whose results ``folder`` holds; None when it holds none."""
    path = folder / "spec.yaml"
    if not path.is_file():
        return None
    try:
        return Spec.model_validate(read_yaml(path)).dump()
    except ValidationError as error:
        raise MedsegError(
            path,
            "it is not what a benchmark of this version wrote",
            "Restore it, or choose another folder with -o",
        ) from error


def _identity(key: str, entry: dict[str, Any], rested: set[tuple[str, str]]) -> dict[str, Any]:
    """An entry without what may differ: where a file lies, and whether it is shown, is not what
    it holds."""
    elsewhere = {"path", "split", "show"}
    if str(entry.get("system", "")).endswith(".py"):
        elsewhere = {"system"}
    same = {name: value for name, value in entry.items() if name not in elsewhere}
    if (key, entry.get("name")) not in rested:
        same["hash"] = None
    return same


def _alike(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Equal, where a hash that is not known yet equals any."""
    if None in (before["hash"], now["hash"]):
        return {**before, "hash": None} == {**now, "hash": None}
    return before == now


def write_splits(folder: Path, checked: Mapping[str, Checked], cells: list[Cell]) -> None:
    for name, data in checked.items():
        path = folder / split_name(name)
        if not data.split or (path.is_file() and path.read_text(encoding="utf-8") == data.split):
            continue
        mine = [cell for cell in cells if cell.data.name == name]
        if path.is_file() and any(cell.finished for cell in mine):
            raise MedsegError(
                f"-o {folder}",
                f"its results of {name} rest on another split",
                "Choose another folder with -o",
            )
        for cell in mine:
            shutil.rmtree(cell.folder, ignore_errors=True)
        write_text(path, data.split)


def split_name(name: str) -> str:
    return f"splits/{name}.csv"


def forget_changed(folder: Path, spec: Spec, cells: list[Cell]) -> None:
    """Delete what unfinished cells made of systems and data whose content has changed."""
    before = _stored(folder)
    if before is None:
        return
    hashes = {
        (key, each["name"]): each["hash"]
        for key in ("systems", "data", "unseen")
        for each in before[key]
    }
    now = {("systems", each.name): each.hash for each in spec.systems}
    now |= {("data", each.name): each.hash for each in spec.data}
    now |= {("unseen", each.name): each.hash for each in spec.unseen}
    changed = {key for key, digest in now.items() if hashes.get(key) != digest}
    for cell in cells:
        if cell.finished:
            continue
        for entry in spec.unseen:
            if ("unseen", entry.name) in changed:
                (cell.folder / "unseen" / f"{entry.name}.csv").unlink(missing_ok=True)
        if {("systems", cell.system.name), ("data", cell.data.name)} & changed:
            shutil.rmtree(cell.folder, ignore_errors=True)
            (folder / "efficiency" / f"{cell.system.name}.json").unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this process alone."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise MedsegError(
            f"-o {folder}", "another benchmark is writing to it", "Wait for it, or use another -o"
        ) from None
    except OSError as error:
        raise MedsegError(
            f"-o {folder}", f"it cannot be written ({error.strerror or error})",
            "Choose another folder",
        ) from error  # fmt: skip
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / ".lock").unlink()
        lock.release()
        # Nothing is left behind where nothing was begun.
        with suppress(OSError):
            folder.rmdir()
