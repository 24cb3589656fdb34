"""From a dataset to what a training loop consumes: checked, split, cached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
from medseg.data.integrity import check_dataset
from medseg.data.layouts import open_dataset
from medseg.data.leaks import KINDS, Leak, find_leaks, leak_error, summary
from medseg.data.limited import images_without_masks, keep_labels
from medseg.data.splitfile import case_hashes, data_hash, read_split
from medseg.data.splits import Division, choose_fold, divide
from medseg.data.survey import Survey
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

    @cached_property
    def parts(self) -> dict[Split, list[Case]]:
        """The labelled cases of each part, without hidden ones."""
        parts: dict[Split, list[Case]] = {"train": [], "val": [], "test": []}
        for case in self.survey.usable:
            if case.id in self.split and case.id not in self.hidden:
                parts[self.split[case.id]].append(case)
        return parts

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
        if not self.leaks:
            return ""
        return (
            f"Leak: {summary(self.leaks)} on both sides of the split; scores on these data are too "
            "good."
        )

    @property
    def counts(self) -> dict[str, int]:
        """Cases of each part, and of those without masks if any are learnt from."""
        counts: dict[str, int] = {part: len(cases) for part, cases in self.parts.items()}
        return counts | ({"unlabelled": len(self.unlabelled)} if self.unlabelled else {})

    def facts(self, cache: CaseCache) -> dict[str, Any]:
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


def rows_of(material: Material, cache: CaseCache) -> Rows:
    """Find the parts in the cache and measure the training cases' channels."""
    train = cache.rows([case.id for case in material.parts["train"]])
    val = cache.rows([case.id for case in material.parts["val"]])
    others = cache.rows([case.id for case in material.unlabelled])
    mean, std = cache.channel_statistics(np.concatenate([train, others]))
    return Rows(train, val, others if len(others) else None, mean, std)


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
    material = Material(
        survey, division.parts, survey.labels, channels, division.fold, division.folds, leaks
    )
    if material.parts["train"]:
        material = _with_few_labels(material, recipe)
    for name in ("train", "val"):
        if not material.parts[name]:
            raise DataError(
                root, f"the {name} part is empty", "Add labelled cases or change data.ratios"
            )
    return material


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
