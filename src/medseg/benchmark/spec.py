"""The specification of a benchmark: what is trained on what, how often, and how it is scored."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from medseg import systems
from medseg.benchmark.places import seen_from
from medseg.data import registry
from medseg.data.source import file_sha256
from medseg.engine.run import make_recipe
from medseg.errors import MedsegError, RecipeError, nearest
from medseg.files import write_text
from medseg.metrics.conventions import CONVENTIONS
from medseg.metrics.panel import DEFAULT_METRICS, METRICS, EmptyPolicy
from medseg.recipe import Recipe, Section, apply_settings, parse_recipe

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")
# Why a recipe key cannot be set, and what to do instead.
_DECIDED = ("the protocol decides it", "Use the keys systems, seeds, split_seed and folds")
_OF_DATA = (
    "each dataset has its own",
    "Write it in a SPEC.yaml, as in data: [{path: FOLDER, group_pattern: ...}]",
)
_SAME = ("it would give systems different cases", "Set it for all systems, or not at all")
_NOT_FOR_ALL = {
    **dict.fromkeys(("seed", "system", "data.fold", "data.folds"), _DECIDED),
    **dict.fromkeys(("data.layout", "data.group_pattern"), _OF_DATA),
}
_NOT_FOR_ONE = {
    **_NOT_FOR_ALL,
    **dict.fromkeys(
        (
            "data.ratios",
            "data.snap_masks",
            "data.max_megapixels",
            "data.allow_leak",
            "data.slices",
        ),
        _SAME,
    ),
}


class _Named(Section):
    """Something that gives a folder its name."""

    model_config = ConfigDict(populate_by_name=True)

    name: str

    @field_validator("name")
    @classmethod
    def _can_name_a_folder(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError("use letters, digits, '.', '_', '+' and '-', a letter or digit first")
        return name


class SystemEntry(_Named):
    """A system as it takes part."""

    system: str
    """A system (`medseg systems list`) or the path of a Python file with one network."""
    settings: tuple[str, ...] = Field(default=(), alias="set")
    """Recipe values of this system alone, as ``a.b=c``."""
    hash: str | None = None
    """SHA-256 of the Python file."""


class DataEntry(_Named):
    """A dataset as it takes part."""

    path: str
    """A folder, a manifest or a registered name."""
    layout: str = "auto"
    """How it lies on disk, where it cannot be recognised."""
    group_pattern: str | None = None
    """Regular expression that finds the patient in a case id."""
    split: str | None = None
    """A CSV of `medseg data split`; None takes the published split, or else draws one."""
    show: bool = True
    """Whether the report may show its images: patients and licences may forbid it."""
    settings: tuple[str, ...] = Field(default=(), alias="set")
    """Recipe values of all trainings on it, as ``a.b=c``."""
    hash: str | None = None
    """Of the content of all images and masks. Data of another hash are refused."""

    @property
    def place(self) -> Path:
        """What datasets are opened by."""
        return Path(self.path)


class Spec(Section):
    """A benchmark, everything in it resolved: names are known, paths are absolute."""

    model_config = ConfigDict(populate_by_name=True)

    systems: Annotated[tuple[SystemEntry, ...], Field(min_length=1)]
    data: Annotated[tuple[DataEntry, ...], Field(min_length=1)]
    """Each system is trained on each of them."""
    unseen: tuple[DataEntry, ...] = ()
    """Every trained model is scored on each of them as it is."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0, 1, 2)
    """Of the weights, the order and the augmentation; never of the split. A number counts them."""
    split_seed: Annotated[int, Field(ge=0)] = 0
    """Of the splits, where none is published."""
    folds: bool = False
    """The i-th seed validates on the i-th fold, instead of all on the same cases. The test part
    is the same for all."""
    settings: tuple[str, ...] = Field(default=(), alias="set")
    """Recipe values of all systems, as ``a.b=c``."""
    metrics: tuple[str, ...] = DEFAULT_METRICS
    empty_policy: EmptyPolicy = "one"
    """What a case is worth where truth and prediction of a class are both empty."""
    convention: str = "default"
    """Whose way of computing the metrics (`medseg evaluate --convention`)."""

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_seeds(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("give a number of seeds, or a list of seeds")
        return tuple(range(value)) if isinstance(value, int) else value

    @field_validator("settings", mode="before")
    @classmethod
    def _settings(cls, value: Any) -> Any:
        return as_settings(value)

    @model_validator(mode="after")
    def _everything_once(self) -> Self:
        for key in ("systems", "data", "unseen"):
            names = [each.name.lower() for each in getattr(self, key)]
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"{key}: two are called {name!r}; give them a name each")
        trained_on = {entry.name: entry for entry in self.data}
        for entry in self.unseen:
            same = trained_on.get(entry.name)
            if same is None:
                continue
            free = {"show": same.show, "settings": entry.settings or same.settings}
            if entry.model_copy(update=free) != same:
                raise ValueError(
                    f"unseen: {entry.name!r} is also the name of other data; give it another"
                )
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: one is there twice")
        return self

    def settings_of(self, system: SystemEntry, data: DataEntry | None = None) -> tuple[str, ...]:
        """Recipe values of ``system`` on ``data``; where two disagree, the later counts."""
        return (*self.settings, *(data.settings if data else ()), *system.settings)

    def recipe(self, system: SystemEntry, data: DataEntry | None = None) -> Recipe:
        """What ``system`` is trained by on ``data``, before anything is taken from the images.

        Raises:
            RecipeError: an option that does not exist or may not differ between systems.
        """
        return make_recipe({"system": system.system}, self.settings_of(system, data))

    def data_recipe(self, entry: DataEntry) -> Recipe:
        """How a dataset is read and split, whatever is trained on it."""
        data = {
            "layout": entry.layout,
            "group_pattern": entry.group_pattern,
            "fold": 0 if self.folds else None,
        }
        every = (*self.settings, *entry.settings)
        shared = [setting for setting in every if setting.startswith("data.")]
        values = apply_settings({"seed": self.split_seed, "data": data}, shared)
        # Reading and splitting are the same for images and volumes.
        return parse_recipe(apply_settings(values, ["data.dims=2"]))

    def dump(self) -> dict[str, Any]:
        """As YAML holds it."""
        return self.model_dump(mode="json", by_alias=True)

    def save(self, path: Path) -> None:
        """Write as YAML, atomically; what is written can be given to `medseg benchmark`.

        Paths start at the file's folder, where they lie on its drive.
        """
        values = self.dump()
        for entry in (*values["systems"], *values["data"], *values["unseen"]):
            for key in ("system", "path", "split"):
                if entry.get(key) is not None:
                    entry[key] = seen_from(path.parent, entry[key])
        write_text(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys of a YAML file.

    Raises:
        MedsegError: it cannot be read, or holds something else.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise MedsegError(
            path, f"it cannot be read as YAML ({reason})", "See docs/benchmark.md for an example"
        ) from error
    if not isinstance(values, dict):
        raise MedsegError(path, "it holds no keys", "See docs/benchmark.md for an example")
    return values


def parse_spec(
    values: Mapping[str, Any],
    *,
    where: str = "spec",
    base: Path | None = None,
    check_hashes: bool = True,
) -> Spec:
    """Resolve and validate a specification; no image is read.

    Args:
        values: of `Spec`; systems and datasets may be plain names or paths, unseen data also
            names of ``data``, ``set`` may be a mapping, and ``seeds`` a number.
        where: what errors name.
        base: the folder that relative paths start from; default: the current one.
        check_hashes: refuse a Python file that has changed since its hash was recorded.

    Raises:
        MedsegError: naming the key, what was found and what is allowed.
    """
    base = base or Path()
    values = dict(values)
    known: dict[str, Any] = {}
    for key in ("systems", "data", "unseen"):
        given = values.get(key)
        if isinstance(given, (str, Mapping)):
            given = [given]
        if isinstance(given, Sequence):
            resolve = _system if key == "systems" else _data
            values[key] = [
                known[each]
                if isinstance(each, str) and each in known
                else resolve(each, base, f"{where}: {key}")
                for each in given
            ]
        if key == "data" and isinstance(values.get(key), list):
            # Unseen data may be named like those trained on, which they then are.
            known = {str(each.get("name")): each for each in values[key]}
    try:
        spec = Spec.model_validate(values)
    except ValidationError as error:
        raise _refusal(error, where) from error
    _check_metrics(spec.metrics, where)
    if spec.convention not in CONVENTIONS:
        raise MedsegError(
            f"{where}: convention",
            f"there is no convention {spec.convention!r}",
            nearest(spec.convention, CONVENTIONS),
        )
    _check_settings(spec.settings, f"{where}: set", _NOT_FOR_ALL)
    trained_on = [entry.name for entry in spec.data]
    for entry in (*spec.data, *spec.unseen):
        key = f"{where}: {entry.name}: set"
        _check_settings(entry.settings, key, _NOT_FOR_ALL)
        if entry.settings and entry.name not in trained_on:
            raise MedsegError(key, "nothing is trained on unseen data", "Remove it")
    for system in spec.systems:
        _check_settings(system.settings, f"{where}: {system.name}: set", _NOT_FOR_ONE)
        try:
            spec.recipe(system)
        except RecipeError as error:
            raise RecipeError(
                f"{where}: {system.name}: {error.where}", error.found, error.remedy
            ) from error
        for entry in spec.data:
            try:
                spec.recipe(system, entry)
            except RecipeError as error:
                raise RecipeError(
                    f"{where}: {entry.name}: {error.where}", error.found, error.remedy
                ) from error
    return spec.model_copy(
        update={
            "systems": tuple(_with_hash(each, where, check_hashes) for each in spec.systems),
            "metrics": tuple(dict.fromkeys(("dice", *spec.metrics))),
        }
    )


def _system(given: Any, base: Path, where: str) -> Any:
    if isinstance(given, str):
        given = {"system": given}
    if not isinstance(given, Mapping):
        raise MedsegError(where, f"{given!r} is no system", "Name a system, or a .py file")
    entry = {str(key): value for key, value in given.items()}
    system = entry.setdefault("system", entry.get("name"))
    if not isinstance(system, str):
        raise MedsegError(where, f"{given!r} names no system", "Write name: unet, or system: unet")
    if system.endswith(".py"):
        path = base / system
        if not path.is_file():
            raise MedsegError(f"{where}: {system}", "there is no such file", f"It is not {path}")
        # The name of a link says more than that of the file behind it.
        entry["system"] = str(path.parent.resolve() / path.name)
    elif system not in systems.names():
        raise MedsegError(where, f"there is no system {system!r}", nearest(system, systems.names()))
    # A system of words is asked for what it was trained on.
    elif systems.load_card(system).prompts not in ((), ("text",)):
        raise MedsegError(
            where,
            f"{system} is pointed at what it segments, and a benchmark points at nothing",
            "Train it, and use `medseg evaluate --interactions`",
        )
    entry.setdefault("name", _safe(Path(system).stem))
    if "set" in entry:
        entry["set"] = as_settings(entry["set"])
    return entry


def _data(given: Any, base: Path, where: str) -> Any:
    if isinstance(given, str):
        given = {"path": given}
    if not isinstance(given, Mapping):
        raise MedsegError(where, f"{given!r} is no dataset", "Give a folder or a registered name")
    entry = {str(key): value for key, value in given.items()}
    name = entry.setdefault("path", entry.get("name"))
    if not isinstance(name, str) or not name:
        raise MedsegError(where, f"{given!r} names no dataset", "Write path: FOLDER")
    path = base / name
    if path.exists():
        place = path.resolve()
        entry["path"] = str(place)
        entry.setdefault("name", _safe(place.name if place.is_dir() else place.stem))
    elif registry.find(Path(name)) is None:
        missing = registry.not_found(Path(name) if path == Path(name) else path)
        raise MedsegError(f"{where}: {name}", missing.found, missing.remedy)
    entry.setdefault("name", _safe(name))
    if "set" in entry:
        entry["set"] = as_settings(entry["set"])
    if isinstance(entry.get("split"), str):
        split = base / entry["split"]
        if not split.is_file():
            raise MedsegError(f"{where}: {name}: split", f"there is no file {split}", "Correct it")
        entry["split"] = str(split.resolve())
    return entry


def as_settings(value: Any) -> Any:
    """``{a.b: c}`` and ``{a: {b: c}}`` as ``["a.b=c"]``."""
    if not isinstance(value, Mapping):
        return value
    found: list[str] = []
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            found += [
                f"{key}.{name}={json.dumps(each, default=str)}" for name, each in inner.items()
            ]
        else:
            found.append(f"{key}={json.dumps(inner, default=str)}")
    return found


def _check_metrics(names: Iterable[str], where: str) -> None:
    for name in names:
        if name not in METRICS:
            raise MedsegError(
                f"{where}: metrics", f"there is no metric {name!r}", nearest(name, METRICS)
            )


def _check_settings(
    settings: Iterable[str], where: str, forbidden: Mapping[str, tuple[str, str]]
) -> None:
    for setting in settings:
        key = setting.partition("=")[0].strip()
        if key in forbidden:
            raise MedsegError(f"{where}: {key}", *forbidden[key])


def _with_hash(entry: SystemEntry, where: str, check: bool) -> SystemEntry:
    if not entry.system.endswith(".py"):
        return entry
    digest = file_sha256(Path(entry.system))
    if check and entry.hash not in (None, digest):
        raise MedsegError(
            f"{where}: {entry.name}",
            f"{entry.system} has changed since its hash was recorded",
            "Restore it, or remove the hash and use another -o",
        )
    return entry.model_copy(update={"hash": digest})


def _safe(text: str) -> str:
    """A name for a folder, made from a file's."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-._+")[:80] or "unnamed"


def _refusal(error: ValidationError, where: str) -> MedsegError:
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        section = str(first["loc"][0])
        if len(first["loc"]) == 1:
            model: type[Section] = Spec
        else:
            model = SystemEntry if section == "systems" else DataEntry
        known = [field.alias or name for name, field in model.model_fields.items()]
        return MedsegError(
            f"{where}: {path}", "there is no such key", nearest(str(first["loc"][-1]), known)
        )
    if first["type"] == "missing":
        return MedsegError(f"{where}: {path}", "it is missing", f"Add {first['loc'][-1]}")
    message = first["msg"].removeprefix("Value error, ")
    found = "not valid" if first["loc"] == () else f"{first['input']!r} is not allowed"
    return MedsegError(f"{where}: {path}" if path else where, found, message)
