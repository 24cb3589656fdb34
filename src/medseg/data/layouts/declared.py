"""What layouts share that a JSON file declares: reading it, and saying all that is wrong with it.

Nothing in such a file is trusted: every key may be missing or of another type.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from unicodedata import category

from medseg.data.case import Case, Label, LabelMap, Problem, Region
from medseg.data.expand import Subject, expand
from medseg.data.io import stem
from medseg.data.labels import IGNORED, MAX_CLASSES
from medseg.data.layouts.names import nfc
from medseg.errors import DataError, plural

Object = Mapping[str, Any]

_MAX_VALUE = 65535
_DRIVE = re.compile("[A-Za-z]:")

# Unicode's control characters, surrogates, line and paragraph separators.
_NOT_IN_A_LINE = ("Cc", "Cs", "Zl", "Zp")
_LABELS_REMEDY = 'Write names and whole numbers, e.g. {"background": 0, "tumour": 1}'


@dataclass
class Faults:
    """Gathers what is wrong with one file, so that it can be said in one go.

    Attributes:
        file: the file.
        problems: what was found so far.
    """

    file: Path
    problems: list[Problem] = field(default_factory=list)

    def add(
        self, kind: str, found: str, remedy: str, *, where: str = "", warning: bool = False
    ) -> None:
        """Note an error, or a warning, at a place within the file."""
        place = f"{self.file}, {where}" if where else str(self.file)
        severity: Literal["error", "warning"] = "warning" if warning else "error"
        self.problems.append(Problem(severity, kind, printable(place), printable(found), remedy))

    def key(self, key: str, value: object, wanted: str, remedy: str, *, where: str = "") -> None:
        """Note that a key does not hold what it should."""
        self.add("json-key", f"'{key}' is {show(value)}, not {wanted}", remedy, where=where)

    def raised(self) -> DataError:
        """All of them as one error."""
        found = list(dict.fromkeys(_placed(problem, self.file) for problem in self.problems))
        shown = "; ".join(found[:8]) + (f"; and {len(found) - 8} more" if len(found) > 8 else "")
        return DataError(self.file, shown, self.problems[0].remedy)


def load_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: it cannot be read, is no JSON, is nested too deep or repeats a key.
    """
    try:
        return json.loads(path.read_bytes(), object_pairs_hook=_without_repeats)
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", "Check the name") from error
    except UnicodeDecodeError as error:
        raise DataError(path, f"is not UTF-8 ({error.reason})", "Save it as UTF-8") from error
    except RecursionError as error:
        raise DataError(path, "is nested too deep", "Write it anew") from error
    except (ValueError, OverflowError) as error:
        raise DataError(
            path, f"is not valid JSON ({printable(str(error))})", "Correct it"
        ) from error


def load_object(path: Path) -> Object:
    """The content of a JSON file that must hold an object.

    Raises:
        DataError: as :func:`load_json`, and when it holds something else.
    """
    content = load_json(path)
    if not isinstance(content, dict):
        raise DataError(
            path, f"holds {show(content)}, not an object", "It must begin with { and end with }"
        )
    return content


def peek(path: Path) -> Object:
    """As :func:`load_object`, but empty where that raises."""
    try:
        return load_object(path)
    except DataError:
        return {}


def is_text(value: object) -> bool:
    """Whether a JSON value is text that is not empty."""
    return isinstance(value, str) and bool(value.strip())


def is_whole(value: object) -> bool:
    """Whether a JSON value is a whole number; ``true`` is not."""
    return type(value) is int


def show(value: object, most: int = 40) -> str:
    """A JSON value in words, for errors."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    text = printable(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= most else f"{text[:most]} ..."


def printable(text: str) -> str:
    """The text with escapes for what a line of a UTF-8 file cannot hold."""
    return "".join(ascii(c)[1:-1] if category(c) in _NOT_IN_A_LINE else c for c in text)


def first(names: Iterable[str], most: int = 5) -> str:
    """The first few names, for errors."""
    listed = list(names)
    return ", ".join(listed[:most]) + (" ..." if len(listed) > most else "")


def find_file(folder: Path, name: str, *, series: bool = False) -> Path | None:
    """The file that a name relative to ``folder``, or an absolute one, stands for.

    Windows' separators and the other Unicode form of a name are understood.

    Args:
        folder: of the JSON file.
        name: as it is written there.
        series: whether it may be a folder, as DICOM series are.
    """
    # Unlike Path's, these are False for names that no file can have.
    exists = os.path.exists if series else os.path.isfile
    for spelling in dict.fromkeys((name, name.replace("\\", "/"))):
        if exists(os.path.join(folder, spelling)):
            return folder / spelling
    if name.isascii():
        return None
    path = folder / name.replace("\\", "/")
    try:
        entries = sorted(path.parent.iterdir())
    except (OSError, ValueError):
        return None
    return next((entry for entry in entries if nfc(entry.name) == nfc(path.name)), None)


def safe_id(name: str) -> str:
    """A case id from the path of an image: masks are written under it, so it must not leave their
    folder."""
    parts = PurePosixPath(nfc(stem(name.replace("\\", "/")))).parts
    kept = [part for part in parts if part not in ("/", "//", "..") and not _DRIVE.fullmatch(part)]
    return "/".join(kept).replace(":", "_")


def is_id(value: object) -> bool:
    """Whether a JSON value can be a case's id; masks written under it must not leave their
    folder on any system."""
    if not isinstance(value, str) or printable(value) != value:
        return False
    parts = [part for part in re.split(r"[/\\]", value) if part != "."]
    return all(parts) and ".." not in parts and not re.match(r"[A-Za-z]:[/\\]", value)


def as_text(value: str | float | bool | None) -> str:
    """A JSON value as the text of an attribute; NaN, which stands for a missing one, is empty."""
    if value is None or value != value:
        return ""
    return printable(value.strip()) if isinstance(value, str) else json.dumps(value)


def read_labels(faults: Faults, labels: object) -> LabelMap | None:
    """The label map of an object of names and values; None, with the faults noted, without one.

    The value of ``ignore`` is that of pixels that nothing is known of. When some values are lists
    of numbers (regions, which may overlap), every number is a class, named by the smallest region
    that holds it, and the regions are what is scored.
    """
    before = len(faults.problems)
    if not isinstance(labels, dict):
        faults.key("labels", labels, "an object", _LABELS_REMEDY)
        return None
    values: dict[str, tuple[int, ...]] = {}
    for name, value in labels.items():
        numbers = value if isinstance(value, list) else [value]
        name = printable(name.strip())
        if not name:
            faults.add("labels", "a label has an empty name", "Name every label")
        elif name in values:
            faults.add("labels", f"'{name}' is declared twice", "Give each label its own name")
        elif not numbers or not all(is_whole(n) and 0 <= n <= _MAX_VALUE for n in numbers):
            remedy = f"Allowed: whole numbers in 0..{_MAX_VALUE}, or lists of them (regions)"
            faults.add("labels", f"the label '{name}' has the value {_numbers(value)}", remedy)
        elif len(set(numbers)) < len(numbers):
            faults.add("labels", f"the label '{name}' lists a value twice", "List each value once")
        else:
            values[name] = tuple(numbers)
    ignored = [values.pop(name) for name in list(values) if name.lower() == IGNORED]
    ignore = ignored[0][0] if ignored else None
    if len(ignored) > 1 or any(len(each) > 1 for each in ignored):
        faults.add("labels", "'ignore' stands for several values", "Give it one value")
    background = [name for name, numbers in values.items() if 0 in numbers]
    if len(faults.problems) > before:
        return None
    if not background or values[background[0]] != (0,):
        faults.add("labels", "no label stands for 0 alone", 'Add "background": 0')
        return None
    regions = {name: numbers for name, numbers in values.items() if name != background[0]}
    if any(len(numbers) > 1 for numbers in regions.values()):
        found = _with_regions(faults, background[0], regions, ignore)
    else:
        found = _without_regions(faults, background[0], regions, ignore)
    return found if len(faults.problems) == before else None


def _without_regions(
    faults: Faults, background: str, values: Mapping[str, tuple[int, ...]], ignore: int | None
) -> LabelMap:
    names = {name: numbers[0] for name, numbers in values.items()}
    labels = [Label(name, value) for name, value in sorted(names.items(), key=lambda i: i[1])]
    return _checked(faults, LabelMap((Label(background, 0), *labels), ignore=ignore))


def _with_regions(
    faults: Faults, background: str, regions: Mapping[str, tuple[int, ...]], ignore: int | None
) -> LabelMap:
    by_size = sorted(regions, key=lambda name: len(regions[name]))
    numbers = sorted({number for region in regions.values() for number in region})
    labels = [Label(background, 0)]
    for number in numbers:
        smallest = next(name for name in by_size if number in regions[name])
        # A class that is only a part of the region may not pass for it.
        whole = regions[smallest] == (number,)
        labels.append(Label(smallest if whole else f"{smallest} ({number})", number))
    index = {label.value: place for place, label in enumerate(labels)}
    scored = tuple(
        Region(name, tuple(sorted(index[number] for number in region)))
        for name, region in regions.items()
    )
    return _checked(faults, LabelMap(tuple(labels), ignore=ignore, regions=scored))


def _checked(faults: Faults, labels: LabelMap) -> LabelMap:
    if not 2 <= len(labels.labels) <= MAX_CLASSES:
        faults.add(
            "labels",
            f"declares {plural(len(labels.labels) - 1, 'label')} besides the background",
            f"Declare 1 to {MAX_CLASSES - 1}",
        )
    values = labels.values if labels.ignore is None else (*labels.values, labels.ignore)
    for value, count in Counter(values).items():
        if count > 1:
            names = [label.name for label in labels.labels if label.value == value]
            names += ["ignore"] if value == labels.ignore else []
            faults.add(
                "labels",
                f"the labels {', '.join(names)} have the same value {value}",
                "Give each label its own value",
            )
    for name, count in Counter(labels.names).items():
        if count > 1:
            faults.add("labels", f"'{name}' is declared twice", "Give each label its own name")
    return labels


def read_table(faults: Faults, key: str, value: object) -> dict[str, str]:
    """An object of names and texts (or numbers, or null); anything else is noted."""
    if not isinstance(value, dict):
        faults.key(key, value, "an object", "Write {name: value, ...}")
        return {}
    for name, item in value.items():
        if isinstance(item, dict | list):
            faults.key(f"{key}.{name}", item, "text or a number", "Correct it")
    scalars = {name: item for name, item in value.items() if not isinstance(item, dict | list)}
    return {nfc(name): as_text(item) for name, item in scalars.items()}


def expand_all(
    subjects: Iterable[Subject],
) -> tuple[list[Case], dict[str, list[str]], list[Problem]]:
    """The cases of all subjects, the ids of those of each, and what is wrong with their files."""
    cases: list[Case] = []
    members: dict[str, list[str]] = {}
    problems: list[Problem] = []
    for subject in subjects:
        expanded, wrong = expand(subject)
        cases += expanded
        members[subject.id] = [case.id for case in expanded]
        problems += wrong
    return sorted(cases, key=lambda case: case.id), members, problems


def nothing_usable(path: Path, what: str, problems: Sequence[Problem]) -> DataError:
    """Why no case is left, by the first errors."""
    wrong = [problem for problem in problems if problem.severity == "error"]
    reasons = "".join(f"; {_placed(problem, path)}" for problem in wrong[:3])
    more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return DataError(path, f"{what}{reasons}{more}", wrong[0].remedy if wrong else "Add some")


def _placed(problem: Problem, path: Path) -> str:
    place = problem.where.removeprefix(f"{path}").removeprefix(", ")
    return f"{place}: {problem.found}" if place else problem.found


def _numbers(value: object) -> str:
    if isinstance(value, list) and value:
        return f"[{', '.join(show(item) for item in value[:8])}{', ...' if value[8:] else ''}]"
    return show(value)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key '{repeated}' occurs twice in one object")
    return content
