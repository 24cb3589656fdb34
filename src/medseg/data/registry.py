"""Datasets that are known by name: where the user's copy lies and how it is read."""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medseg.data import catalogue
from medseg.data.case import Case, Dataset, Label, LabelMap, Problem, Split
from medseg.data.catalogue.entry import Entry, PublishedSplit
from medseg.data.source import Union
from medseg.errors import DataError
from medseg.files import write_text

FILE_NAME = "datasets.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Registration:
    """A copy of a dataset on this machine.

    Attributes:
        name: to train by.
        folder: absolute; or a manifest or another file that names a dataset.
        entry: whether the catalogue has an entry of this name, whose split is then applied.
        layout: by which the copy is read, or ``auto``.
        group_pattern: finds the patient in a case id, or None.
        labels: the classes where the copy does not declare any, or None to infer them.
        objects: masks number their objects; everything but 0 is the one foreground class.
        differences: from what was published, in words.
    """

    name: str
    folder: Path
    entry: bool
    layout: str = "auto"
    group_pattern: str | None = None
    labels: LabelMap | None = None
    objects: bool = False
    differences: tuple[str, ...] = ()


def registry_file() -> Path:
    """``datasets.json`` in ``MEDSEG_HOME``, or else in the user's folder for settings."""
    if home := os.environ.get("MEDSEG_HOME"):
        return Path(os.path.abspath(os.path.expanduser(home)), FILE_NAME)
    if sys.platform == "win32":
        settings = os.environ.get("APPDATA") or os.path.expanduser("~/AppData/Roaming")
    else:
        settings = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(settings, "medseg", FILE_NAME)


def registrations() -> dict[str, Registration]:
    """All registered datasets by name; empty when none ever was.

    Raises:
        DataError: the registry is damaged.
    """
    path = registry_file()
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))["datasets"]
        return {name: _from_json(name, values) for name, values in sorted(stored.items())}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", "Check permissions") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            path,
            f"is damaged ({type(error).__name__}: {error})",
            "Delete it and register the datasets again with `medseg data add`",
        ) from error


def register(registration: Registration) -> None:
    """Remember a dataset, in place of one that had its name.

    Raises:
        DataError: the registry is damaged, or the name cannot be used.
        MedsegError: the registry cannot be written.
    """
    check_name(registration.name)
    _write({**registrations(), registration.name: registration})


def remove(name: str) -> Registration:
    """Forget a dataset; its files are not touched.

    Raises:
        DataError: it is not registered, or the registry is damaged.
    """
    known = registrations()
    if name not in known:
        raise DataError(
            name,
            "is not registered",
            _did_you_mean(name, known) or "`medseg data catalogue` marks what is",
        )
    _write({other: entry for other, entry in known.items() if other != name})
    return known[name]


def check_name(name: str) -> None:
    """Raise a DataError when ``name`` could be mistaken for a path or an option."""
    if not _NAME.fullmatch(name):
        raise DataError(
            f"name '{name}'", "cannot be used", "Use letters, digits, - and _, e.g. my-scans"
        )


def find(path: Path) -> Registration | None:
    """The registered dataset that ``path`` names. What exists as a path is no name.

    Raises:
        DataError: its folder is gone, or the registry is damaged.
    """
    if not _NAME.fullmatch(str(path)) or path.exists():
        return None
    registration = registrations().get(str(path))
    if registration is not None and not registration.folder.exists():
        raise DataError(
            registration.name,
            f"was registered in {registration.folder}, which does not exist any more",
            f"If it was moved: medseg data add {registration.name} NEW_FOLDER; "
            f"if it is gone: medseg data remove {registration.name}",
        )
    return registration


def described(path: Path) -> str:
    """``path`` as reports name it: a registered copy with what makes it differ from the published
    set, e.g. ``"busi (partial copy: 85 of 780 images)"``."""
    known = find(path)
    if known is None or not known.differences:
        return str(path)
    return f"{path} ({'; '.join(known.differences)})"


def not_found(path: Path) -> DataError:
    """What to say of a dataset that is neither a path nor a registered name."""
    name = str(path)
    if not _NAME.fullmatch(name):
        return DataError(path, "does not exist", "Check the name of the dataset's folder")
    if name in catalogue.names():
        return DataError(
            name,
            "does not exist here, and no copy of this public dataset is registered",
            f"Get it as `medseg data catalogue show {name}` says, then: "
            f"medseg data add {name} FOLDER",
        )
    hint = _did_you_mean(name, {*catalogue.names(), *registrations()})
    return DataError(
        name,
        "does not exist, and no dataset is registered under this name",
        f"{hint or 'Check the name of the folder.'} Folders get a name with "
        f"`medseg data add NAME FOLDER`",
    )


def suggestion(name: str) -> str:
    """``"Did you mean 'kvasir-seg'?"`` for a name close to one in the catalogue, or nothing."""
    return _did_you_mean(name, catalogue.names())


def apply(registration: Registration, dataset: Dataset) -> Dataset:
    """A registered dataset as its entry describes it: classes, published split, and warnings of
    what differs from the published set."""
    cases = dataset.cases
    if registration.objects:
        cases = tuple(_one_class(case, registration.labels) for case in cases)
    problems = list(dataset.problems)
    reason = f"{dataset.reason}; registered as {registration.name}"
    if registration.differences:
        what = "; ".join(registration.differences)
        problems.append(
            Problem(
                "warning",
                "not-as-published",
                registration.name,
                f"this copy differs from the published set: {what}",
                "Say so where its scores are quoted",
            )
        )
        reason = f"{reason}; differs from the published set: {what}"
    if registration.entry:
        entry = catalogue.load_entry(registration.name)
        cases = with_published_split(entry, cases)
        problems += _own_split(entry, cases)
    return replace(
        dataset,
        cases=cases,
        labels=dataset.labels or registration.labels,
        problems=tuple(problems),
        reason=reason,
    )


def with_published_split(entry: Entry, cases: tuple[Case, ...]) -> tuple[Case, ...]:
    """The cases with the parts that the entry's patterns give them; as they are when the
    dataset itself divides them."""
    if entry.split is None or any(case.split is not None for case in cases):
        return cases
    return tuple(replace(case, split=_part(case.id, entry.split)) for case in cases)


def _part(case_id: str, split: PublishedSplit) -> Split | None:
    return next((part for part, p in split.patterns.items() if re.search(p, case_id)), None)


def _own_split(entry: Entry, cases: Iterable[Case]) -> list[Problem]:
    """Say so when a published split exists and another will be drawn."""
    if entry.split is None or any(case.split is not None for case in cases):
        return []
    return [
        Problem(
            "warning",
            "published-split-unknown",
            entry.name,
            f"its published split is not applied ({entry.split.rule})",
            "medseg draws its own; give the published one with --split to compare with papers",
        )
    ]


def _one_class(case: Case, labels: LabelMap | None) -> Case:
    if case.mask is None:
        return case
    value = labels.foreground[0].value if labels is not None else 255
    return replace(case, mask=Union((case.mask,), (value,)))


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name.lower().replace("_", "-"), sorted(known), 1, 0.6)
    return f"Did you mean '{close[0]}'?" if close else ""


def _write(known: Mapping[str, Registration]) -> None:
    if not registry_file().is_absolute():
        # Without a home, ~ stays ~ and would become a folder of that name.
        raise DataError("MEDSEG_HOME", "is not set, and you have no home folder", "Set it")
    stored = {name: _to_json(each) for name, each in sorted(known.items())}
    text = json.dumps({"version": 1, "datasets": stored}, indent=1, ensure_ascii=False)
    write_text(registry_file(), text + "\n")


def _to_json(registration: Registration) -> dict[str, Any]:
    labels = registration.labels
    return {
        "folder": str(registration.folder),
        "entry": registration.entry,
        "layout": registration.layout,
        "group_pattern": registration.group_pattern,
        "labels": None
        if labels is None
        else [{"name": label.name, "value": label.value} for label in labels.labels],
        "rgb": labels is not None and labels.rgb,
        "objects": registration.objects,
        "differences": list(registration.differences),
    }


def _from_json(name: str, values: Mapping[str, Any]) -> Registration:
    labels = values["labels"]
    pattern = values["group_pattern"]
    return Registration(
        name,
        Path(values["folder"]),
        bool(values["entry"]) and name in catalogue.names(),
        str(values["layout"]),
        None if pattern is None else str(pattern),
        None
        if labels is None
        else LabelMap(
            tuple(Label(str(label["name"]), int(label["value"])) for label in labels),
            rgb=bool(values["rgb"]),
        ),
        bool(values["objects"]),
        tuple(map(str, values["differences"])),
    )
