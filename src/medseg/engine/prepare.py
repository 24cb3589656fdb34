"""From a dataset to what a training loop consumes: checked, split, cached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape

from medseg.data.cache import CacheSettings, CaseCache, open_cache
from medseg.data.case import Case, Dataset, LabelMap, Problem, Split
from medseg.data.groups import Grouping, check_attribute, group_of, marked_attributes
from medseg.data.integrity import check_dataset
from medseg.data.layouts import open_dataset
from medseg.data.leaks import KINDS, Leak, find_leaks, leak_error, summary
from medseg.data.limited import images_without_masks, keep_labels
from medseg.data.slices import Whole, gather
from medseg.data.splitfile import case_hashes, data_hash, read_split
from medseg.data.splits import Division, choose_fold, divide
from medseg.data.survey import Survey
from medseg.data.volumes.cache import VolumeCache, VolumeSettings, open_volume_cache
from medseg.data.volumes.fingerprint import (
    VolumeFingerprint,
    intensity_rules,
    take_volume_fingerprint,
)
from medseg.engine.plan import Plan
from medseg.engine.progress import counting_bar
from medseg.errors import DataError, plural
from medseg.methods.registry import method_class
from medseg.recipe import Recipe


@dataclass(frozen=True)
class Material:
    """A checked dataset and its split.

    Attributes:
        survey: without errors but those of ``leaks``.
        split: case id to part.
        labels: the classes.
        channels: of the images as the network sees them.
        fold: which fold validates; None for a plain split.
        folds: how many there are.
        leaks: what stands in several parts, which the recipe allows.
        hidden: ids of training cases whose masks the recipe leaves out.
        unlabelled: training cases without masks, for methods that learn from them; else none.
        dims: 3 where volumes are learnt from as a whole.
        pictures: finds the volume in the id of a picture that is a slice; None: there are none.
        inherited: of the model that training starts from (`Origin.inherited`); empty: there is
            none.
        grouping: the groups of the attribute that the recipe names, or of the only one that the
            data name; else None.
    """

    survey: Survey
    split: Mapping[str, Split]
    labels: LabelMap
    channels: int
    fold: int | None
    folds: int
    leaks: tuple[Leak, ...] = ()
    hidden: frozenset[str] = frozenset()
    unlabelled: tuple[Case, ...] = ()
    dims: int = 2
    pictures: str | None = None
    inherited: Mapping[str, Any] = field(default_factory=dict)
    grouping: Grouping | None = None

    @cached_property
    def parts(self) -> dict[Split, list[Case]]:
        """The labelled cases of each part, without hidden ones."""
        parts: dict[Split, list[Case]] = {"train": [], "val": [], "test": []}
        for case in self.survey.usable:
            if case.id in self.split and case.id not in self.hidden:
                parts[self.split[case.id]].append(case)
        return parts

    @cached_property
    def volumes(self) -> dict[Split, list[Whole]]:
        """The cases of each part, slices put together."""
        return {part: gather(cases, pictures=self.pictures) for part, cases in self.parts.items()}

    @cached_property
    def unlabelled_volumes(self) -> list[Whole]:
        """Of ``unlabelled``, slices put together."""
        return gather(self.unlabelled, pictures=self.pictures)

    def cache(self, recipe: Recipe, folder: Path, *, limit: int, console: Console) -> CaseCache:
        """Training and validation cases, decoded and resized below ``folder``."""
        labelled = [*self.parts["train"], *self.parts["val"]]
        cases = [*labelled, *self.unlabelled]
        facts = {each.id: each for each in self.survey.cases}
        settings = CacheSettings(
            image_size=recipe.data.pixels,
            channels=self.channels,
            labels=self.labels,
            snap=recipe.data.snap_masks,
            max_pixels=recipe.data.max_pixels,
        )
        hashes = [f"{facts[c.id].image_sha256}{facts[c.id].mask_sha256}" for c in labelled]
        hashes += [facts[case.id].image_sha256 for case in self.unlabelled]
        with counting_bar(console) as bar:
            task = bar.add_task("caching images", total=len(cases))
            return open_cache(
                cases, hashes, settings, folder, limit=limit,
                progress=lambda done, total: bar.update(task, completed=done),
                waiting=lambda: console.print("another training is building this cache; waiting"),
            )  # fmt: skip

    def image_hashes(self) -> dict[str, str]:
        """Case id to the start of its image file's SHA-256."""
        return {facts.id: facts.image_sha256[:16] for facts in self.survey.cases}

    @cached_property
    def hashes(self) -> dict[str, str]:
        """Case id to a hash of its image and mask, for the usable cases."""
        return case_hashes(self.survey)

    @property
    def leak_note(self) -> str:
        """What every report must begin with; empty when nothing leaks."""
        found = [f"{summary(self.leaks)} on both sides of the split"] if self.leaks else []
        if known := self.tested_before:
            model = self.inherited["model"]
            found.append(f"{plural(known, 'test image')} known to {model}, the start of training")
        return f"Leak: {'; '.join(found)}; scores on these data are too good." if found else ""

    @property
    def tested_before(self) -> int:
        """Test images on which the model that training starts from was trained or chosen."""
        seen = set(self.inherited.get("seen", ()))
        images = self.image_hashes() if seen else {}
        return sum(images[case.id] in seen for case in self.parts["test"]) if seen else 0

    @property
    def counts(self) -> dict[str, int]:
        """Cases of each part, and of those without masks if any are learnt from."""
        parts, others = (
            (self.parts, self.unlabelled)
            if self.dims == 2
            else (self.volumes, self.unlabelled_volumes)
        )
        counts: dict[str, int] = {part: len(cases) for part, cases in parts.items()}
        return counts | ({"unlabelled": len(others)} if others else {})

    @property
    def start(self) -> dict[str, Any]:
        """The model that training starts from, without the images it has seen."""
        return {key: value for key, value in self.inherited.items() if key != "seen"}

    def facts(self, cache: CaseCache | VolumeCache) -> dict[str, Any]:
        """What a run and its model remember of the data."""
        return {
            "name": self.survey.dataset.root.resolve().stem,
            "layout": self.survey.dataset.layout,
            "hash": cache.folder.name,
            "cases": self.counts,
            "labels": [asdict(label) for label in self.labels.labels],
            "rgb": self.labels.rgb,
            "content": data_hash(self.hashes),
            "leak": self.leak_note,
            **({"init": self.start} if self.inherited else {}),
            "warnings": _first_of_each_kind(self.survey.warnings),
        }


@dataclass(frozen=True)
class Rows:
    """Where the cases of each part lie in the cache, and how images are normalised.

    Attributes:
        train: places of the labelled training cases.
        val: places of the validation cases.
        unlabelled: places of those without masks, for methods that learn from them; else None.
        mean: of each channel over all training cases, on the scale 0..1.
        std: likewise.
    """

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    unlabelled: NDArray[np.int64] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]


def rows_of(material: Material, cache: CaseCache | VolumeCache) -> Rows:
    """Find the parts in the cache and measure the training cases' channels; cached volumes are
    normalised already."""
    if isinstance(cache, VolumeCache):
        channels = cache.channels
        parts = [material.volumes["train"], material.volumes["val"], material.unlabelled_volumes]
        trained, validated, unmarked = (cache.rows([each.id for each in part]) for part in parts)
        return Rows(
            trained,
            validated,
            unmarked if len(unmarked) else None,
            (0.0,) * channels,
            (1.0,) * channels,
        )
    train = cache.rows([case.id for case in material.parts["train"]])
    val = cache.rows([case.id for case in material.parts["val"]])
    others = cache.rows([case.id for case in material.unlabelled])
    mean, std = cache.channel_statistics(np.concatenate([train, others]))
    return Rows(train, val, others if len(others) else None, mean, std)


def measure_volumes(material: Material, recipe: Recipe, console: Console) -> VolumeFingerprint:
    """What the training volumes are like.

    Raises:
        DataError: a file cannot be read, or is no volume.
    """
    usable = material.survey.usable
    patients = {case.patient for case in usable if case.patient is not None}
    volumes, labelled = (
        len(gather(cases, pictures=material.pictures))
        for cases in (material.survey.dataset.cases, usable)
    )
    with counting_bar(console) as bar:
        task = bar.add_task("measuring volumes")
        return take_volume_fingerprint(
            material.volumes["train"],
            root=material.survey.dataset.root,
            counts=(volumes, labelled, len(patients) or None),
            labels=material.labels,
            channels=material.channels,
            snap=recipe.data.snap_masks,
            max_pixels=recipe.data.max_pixels,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def open_volumes(
    material: Material, plan: Plan, folder: Path, *, limit: int, console: Console
) -> VolumeCache:
    """Training and validation volumes, prepared for the network, below ``folder``."""
    labelled = [*material.volumes["train"], *material.volumes["val"]]
    wholes = [*labelled, *material.unlabelled_volumes]
    facts = {each.id: each for each in material.survey.cases}
    hashes = [
        " ".join(
            f"{facts[case.id].image_sha256}{facts[case.id].mask_sha256 if case.mask else None}"
            for case in whole.cases
        )
        for whole in wholes
    ]
    with counting_bar(console) as bar:
        task = bar.add_task("caching volumes", total=len(wholes))
        return open_volume_cache(
            wholes, hashes, volume_settings(material, plan), folder, limit=limit,
            progress=lambda done, total: bar.update(task, completed=done),
            waiting=lambda: console.print("another training is building this cache; waiting"),
        )  # fmt: skip


def volume_settings(material: Material, plan: Plan) -> VolumeSettings:
    """How volumes become what the network takes."""
    found, data = plan.fingerprint, plan.recipe.data
    assert isinstance(found, VolumeFingerprint)
    rules, _ = intensity_rules(found, data.intensity)
    return VolumeSettings(
        channels=material.channels,
        labels=material.labels,
        snap=data.snap_masks,
        max_pixels=data.max_pixels,
        plane=found.plane,
        spacing=None if found.spacings is None else plan.choices["data.spacing"].value,
        intensity=rules,
    )


def prepare(
    root: Path, recipe: Recipe, console: Console, *, split: Path | None, stored: Path | None
) -> Material:
    """Open, check and split a dataset.

    Args:
        root: a folder or manifest.
        recipe: how to read and split it.
        console: for warnings and progress.
        split: a split file to use, or None to draw one.
        stored: the split of the run that is resumed, or None for a new run.

    Raises:
        DataError: nothing usable, errors in the data, a split that was made for other data or
            that leaks, or an empty part.
    """
    settings = recipe.data
    dataset = open_dataset(root, layout=settings.layout, group_pattern=settings.group_pattern)
    if settings.slices is not None:
        dataset = replace(dataset, cases=_grouped_by_volume(dataset.cases, settings.slices))
    folds = None if settings.folds == "auto" else settings.folds
    given = stored or split
    file = None if given is None else read_split(given)
    if file is not None:
        dataset = replace(dataset, cases=file.place(dataset.cases), folds=file.folds)
    # A fold that does not exist is said before all images are read.
    fold, count = choose_fold(dataset.folds, dataset.cases, settings.fold, folds)
    survey = _checked(dataset, recipe, console)
    if file is not None:
        file.check(
            case_hashes(survey),
            "Restore the data, or start a new run"
            if stored is not None
            else "Restore the data, or write a new split with `medseg data split`; to use this one "
            "all the same, remove its column sha256",
        )
    if stored is not None and file is not None:
        division = Division(file.parts, fold, count)
    else:
        division = divide(
            survey, ratios=settings.ratios, seed=recipe.seed, fold=settings.fold, folds=folds
        )
    leaks = find_leaks(dataset.cases, division.parts, survey.clusters)
    if leaks and not settings.allow_leak:
        if stored is not None:
            raise leak_error(stored, leaks, "Start a new run with another split")
        raise leak_error(split or root, leaks)
    assert survey.labels is not None, "a survey without errors has labels"
    channels = settings.channels
    if channels == "auto":
        channels = survey.channels
    assert settings.dims != "auto"
    material = Material(
        survey, division.parts, survey.labels, channels, division.fold, division.folds, leaks,
        dims=settings.dims, pictures=settings.slices,
    )  # fmt: skip
    if material.parts["train"]:
        material = _with_few_labels(material, recipe)
    for name in ("train", "val"):
        if not material.parts[name]:
            raise DataError(
                root, f"the {name} part is empty", "Add labelled cases or change data.ratios"
            )
    return replace(material, grouping=_grouping(material, recipe))


def _grouped_by_volume(cases: Sequence[Case], pictures: str) -> tuple[Case, ...]:
    """The cases, in which slices of a volume are of one patient."""
    volume = {
        case.id: whole.id for whole in gather(cases, pictures=pictures) for case in whole.cases
    }
    return tuple(replace(case, patient=case.patient or volume[case.id]) for case in cases)


def _with_few_labels(material: Material, recipe: Recipe) -> Material:
    """The material with only as many masks as the recipe grants, and what it says of the rest."""
    training = material.parts["train"]
    hidden: frozenset[str] = frozenset()
    if recipe.data.labelled != "all":
        kept = keep_labels(training, recipe.data.labelled, recipe.seed)
        hidden = frozenset(case.id for case in training) - kept
    unlabelled: tuple[Case, ...] = ()
    if method_class(recipe.method).unlabelled:
        unlabelled = images_without_masks(material.survey, material.split, hidden)
        if not unlabelled:
            raise DataError(
                material.survey.dataset.root,
                f"{recipe.method} learns from images without masks, and there are none",
                "Add such images, or leave masks out with --set data.labelled=NUMBER",
            )
    return replace(material, hidden=hidden, unlabelled=unlabelled)


def _grouping(material: Material, recipe: Recipe) -> Grouping | None:
    """The groups of the recipe's attribute, or of the only one that the data name."""
    dataset = material.survey.dataset
    needed, attribute = method_class(recipe.method).grouped, recipe.data.attribute
    if attribute is None:
        marked = marked_attributes(dataset.cases)
        if len(marked) == 1:
            attribute = marked[0]
        elif not needed:
            return None
        elif not marked:
            raise DataError(
                dataset.root, f"{recipe.method} compares groups, and no column tells them",
                "Add a column such as 'group:sex' to the manifest, or name one that is there with "
                "--set data.attribute=NAME",
            )  # fmt: skip
        else:
            raise DataError(
                dataset.root,
                f"{recipe.method} compares the groups of one attribute, and there are "
                f"{', '.join(marked)}",
                f"Choose one: --set data.attribute={marked[0]}",
            )
    else:
        check_attribute(dataset.cases, attribute, dataset.root)
    groups: dict[Split, dict[str, str | None]] = {
        part: {each.id: group_of([each], attribute) for each in cases}
        if material.dims == 2
        else {each.id: group_of(each.cases, attribute) for each in material.volumes[part]}
        for part, cases in material.parts.items()
    }
    names = sorted({name for name in groups["train"].values() if name is not None})
    if len(names) < 2:
        if not needed and recipe.data.attribute is None:
            return None
        raise DataError(
            dataset.root,
            f"its training cases are of {plural(len(names), 'group')} of {attribute}"
            + (f" ({names[0]})" if names else ""),
            "Two or more are compared: choose another attribute, or another split",
        )
    numbers = {
        case: names.index(name)
        for part in groups.values()
        for case, name in part.items()
        if name in names
    }
    return Grouping(attribute, tuple(names), numbers)


def _checked(dataset: Dataset, recipe: Recipe, console: Console) -> Survey:
    root = dataset.root
    with counting_bar(console) as bar:
        task = bar.add_task("checking images", total=len(dataset.cases))
        survey = check_dataset(
            dataset,
            snap=recipe.data.snap_masks,
            max_pixels=recipe.data.max_pixels,
            progress=lambda done, total: bar.update(task, completed=done),
        )
    for text in _first_of_each_kind(survey.warnings):
        console.print(f"[yellow]warning[/] {escape(text)}", highlight=False)
    # Leaks are looked for in the split that is used, which may not be the published one.
    errors = [problem for problem in survey.errors if problem.kind not in KINDS]
    if errors:
        lines = [f"{p.where}: {p.found}. {p.remedy}" for p in errors[:20]]
        if len(errors) > 20:
            lines.append(f"... and {len(errors) - 20} more")
        raise DataError(
            root,
            f"{plural(len(errors), 'error')} in the data",
            "\n  ".join([f"`medseg data check {quote(str(root))}` shows all:", *lines]),
        )
    if len(survey.usable) < 2:
        raise DataError(
            root, f"it has {plural(len(survey.usable), 'labelled case')}",
            "At least 2 are needed: one to train on and one to check with",
        )  # fmt: skip
    return survey


def _first_of_each_kind(problems: Sequence[Problem], most: int = 3) -> list[str]:
    """What was found, in a few lines however large the dataset is."""
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(f"{problem.where}: {problem.found}")
    lines = []
    for kind, found in kinds.items():
        lines += found[:most]
        if len(found) > most:
            lines.append(f"... and {len(found) - most} more of the kind {kind}")
    return lines
