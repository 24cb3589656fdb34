"""Folders of this machine, which no result names: a folder of results can be given away."""

from __future__ import annotations

import json
import os
import re
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import medseg
from medseg.data import registry
from medseg.errors import DataError
from medseg.files import write_text

if TYPE_CHECKING:
    from medseg.benchmark.spec import Spec

_BEFORE, _AFTER = r"(?<![\w.:/~-])", r"(?![\w-])"
# The folders of a path that is absolute on any system, up to its last name.
_FOLDERS = re.compile(_BEFORE + r"""(?:[A-Za-z]:\\+|/)(?:[^/\\\s"'<>|:]+[/\\]+)+""")


def seen_from(folder: Path, path: str) -> str:
    """An absolute path as it starts at ``folder``; on another drive it stays absolute.

    Other text, as the name of a registered dataset, is returned as it is.
    """
    if not os.path.isabs(path):
        return path
    try:
        return Path(os.path.relpath(path, folder.resolve())).as_posix()
    except ValueError:
        return path


def names_of(folder: Path, spec: Spec) -> dict[str, str]:
    """What to call the places that a benchmark in ``folder`` may speak of."""
    code = {Path(medseg.__file__).parent.parent, *map(Path, sysconfig.get_paths().values())}
    names = {str(place): "..." for place in code if place != Path(place.anchor)}
    for system in spec.systems:
        names[system.system] = seen_from(folder, system.system)
    for entry in (*spec.data, *spec.unseen):
        for path in filter(None, (entry.path, entry.split)):
            names[path] = seen_from(folder, path)
        try:
            known = registry.find(entry.place)
        except DataError:
            continue
        if known is not None:
            names[str(known.folder)] = entry.path
    names |= {str(folder.absolute()): ".", str(folder.resolve()): "."}
    return {place: name for place, name in names.items() if os.path.isabs(place)}


def renamed(text: str, names: Mapping[str, str]) -> str:
    """``text`` with the places of ``names`` called as they are there."""
    if not names:
        return text
    longest_first = sorted(names, key=len, reverse=True)
    pattern = f"{_BEFORE}(?:{'|'.join(map(re.escape, longest_first))}){_AFTER}"
    return re.sub(pattern, lambda found: names[found[0]], text)


def without_folders(text: str, names: Mapping[str, str]) -> str:
    """``text`` with known places renamed and of any other path only its last name."""
    return _FOLDERS.sub("", renamed(text, names))


def tidy(cell: Path, names: Mapping[str, str]) -> None:
    """Take the folders of this machine out of what is said in a cell's files."""
    names = {**names, **_earlier(cell / "job.json")}
    for path in (cell / "job.json", cell / "run" / "recipe.yaml"):
        _rewrite(path, lambda text: renamed(text, names))
    _rewrite(cell / "log.txt", lambda text: without_folders(text, names))

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return without_folders(value, names)
        if isinstance(value, list):
            return [clean(each) for each in value]
        if isinstance(value, dict):
            return {key: clean(each) for key, each in value.items()}
        return value

    for path in (cell / "cell.json", cell / "run" / "data.json"):
        _rewrite(path, lambda text: _dumped(clean(json.loads(text)), indent=1))
    _rewrite(
        cell / "run" / "test_openings.jsonl",
        lambda text: "".join(_dumped(clean(json.loads(line))) for line in text.splitlines()),
    )


def _earlier(job: Path) -> dict[str, str]:
    """The folder that a benchmark of an earlier version wrote into its jobs."""
    try:
        cache = json.loads(job.read_text(encoding="utf-8"))["cache"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {os.path.dirname(cache): "."} if os.path.isabs(str(cache)) else {}


def _dumped(value: Any, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, **options) + "\n"


def _rewrite(path: Path, change: Callable[[str], str]) -> None:
    try:
        before = path.read_text(encoding="utf-8", errors="replace")
        after = change(before)
    except (OSError, ValueError):
        # Not written yet, or damaged: whoever reads it says so.
        return
    if after.strip() != before.strip():
        write_text(path, after)
