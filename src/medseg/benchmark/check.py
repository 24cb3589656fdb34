"""Looking at all data of a benchmark before hours are spent on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from medseg.benchmark.spec import DataEntry, Spec
from medseg.data.case import Split
from medseg.data.integrity import check_dataset
from medseg.data.layouts import open_dataset
from medseg.data.leaks import KINDS
from medseg.data.overlap import find_overlaps
from medseg.data.slices import Stack, gather, volume_of
from medseg.data.splitfile import case_hashes, data_hash, split_table
from medseg.data.splits import divide_all
from medseg.data.survey import Survey
from medseg.engine.prepare import Material, prepare
from medseg.engine.progress import counting_bar
from medseg.errors import DataError, MedsegError, plural
from medseg.metrics.pairing import agree


@dataclass(frozen=True)
class Checked:
    """A dataset that was looked at.

    Attributes:
        survey: None where it cannot be read at all.
        hash: of all images and masks; empty where it cannot be read.
        cases: how many each part has; of unseen data, how many are ``scored``; a volume is one.
        split: the content of its split file; empty for data that nothing is trained on.
        folds: into how many the cases outside the test part are cut.
        parts: case id to part; empty for data that nothing is trained on.
        leak: what stands on both sides of the split, where that is allowed.
        error: why it cannot be used, in a sentence, or empty.
        misfits: of unseen data: what is trained on and has other classes, with these, in words.
            Nothing trained there is scored here.
    """

    survey: Survey | None = None
    hash: str = ""
    cases: Mapping[str, int] | None = None
    split: str = ""
    folds: int = 1
    parts: Mapping[str, Split] | None = None
    leak: str = ""
    error: str = ""
    misfits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Overlap:
    """Images that unseen data share with the data trained on.

    Attributes:
        data: trained on.
        unseen: scored.
        pairs: equal and nearly equal images, a case of ``data`` and one of ``unseen``.
        learnt: how many cases of ``unseen`` are alike to one of the training or validation part.
    """

    data: str
    unseen: str
    pairs: tuple[tuple[str, str], ...]
    learnt: int


def check_spec(
    spec: Spec, console: Console
) -> tuple[Spec, dict[str, Checked], tuple[Overlap, ...]]:
    """Read every image and mask once.

    Returns:
        The specification with the hashes of the data, what was found by the datasets' names, and
        what each unseen dataset shares with each that is trained on, where that is anything.

    Raises:
        MedsegError: data whose recorded hash is another, or unseen data with other classes than
            all that is trained on.
    """
    checked = {entry.name: _check(entry, spec, console) for entry in spec.data}
    for entry in spec.unseen:
        if entry.name not in checked:
            checked[entry.name] = _check_unseen(entry, spec, console)
    for entry in (*spec.data, *spec.unseen):
        found = checked[entry.name]
        if entry.hash is not None and found.hash and found.hash != entry.hash:
            raise DataError(
                entry.path,
                f"its content has the hash {found.hash}, and {entry.hash} is recorded",
                "Restore the data; or remove the hash and start anew with another -o",
            )
        if found.error:
            console.print(
                f"[red]{entry.name} cannot be used[/] {escape(found.error)}", highlight=False
            )

    def with_hashes(entries: tuple[DataEntry, ...]) -> tuple[DataEntry, ...]:
        return tuple(
            each.model_copy(update={"hash": checked[each.name].hash or each.hash})
            for each in entries
        )

    for entry in spec.unseen:
        found = checked[entry.name]
        checked[entry.name] = replace(found, misfits=_misfits(entry, spec, checked, console))
    spec = spec.model_copy(
        update={"data": with_hashes(spec.data), "unseen": with_hashes(spec.unseen)}
    )
    return spec, checked, _overlaps(spec, checked, console)


def _announce(console: Console, kind: str, entry: DataEntry) -> None:
    text = escape(f"{entry.name}: {entry.path}")
    console.print(f"[bold]{kind:9}[/]{text}", highlight=False, soft_wrap=True)


def _check(entry: DataEntry, spec: Spec, console: Console) -> Checked:
    recipe = spec.data_recipe(entry)
    _announce(console, "data", entry)
    try:
        material = prepare(
            entry.place,
            recipe,
            console,
            split=Path(entry.split) if entry.split else None,
            stored=None,
        )
        _check_volumes(entry, spec, material)
        split, validated = _split(material, spec, recipe.data.ratios)
        counts = {str(part): len(wholes) for part, wholes in material.volumes.items()}
        if not counts["test"]:
            raise DataError(
                entry.path,
                "it has no test part",
                "Give a split with one (`medseg data split`, `split:` in the spec)",
            )
    except MedsegError as error:
        return Checked(error=str(error))
    return Checked(
        survey=material.survey,
        hash=data_hash(material.hashes),
        cases=counts,
        split=split_table(
            split,
            material.survey.dataset.cases,
            clusters=material.survey.clusters,
            hashes=material.hashes,
            folds=validated,
        ),
        folds=material.folds if spec.folds else 1,
        parts=material.split,
        leak=material.leak_note,
    )


def _check_volumes(entry: DataEntry, spec: Spec, material: Material) -> None:
    """Raise a DataError where a system takes volumes, and these are pictures."""
    takers = [each.name for each in spec.systems if spec.recipe(each, entry).data.dims == 3]
    wholes = [whole.image for part in material.volumes.values() for whole in part]
    pictures = [each for each in wholes if not isinstance(each, Stack) and volume_of(each) is None]
    if takers and pictures:
        raise DataError(
            entry.path,
            f"{pictures[0]} is a picture, and {takers[0]} is trained on volumes",
            r"Leave one of them out; or, where pictures are slices, set data.slices for all "
            r"systems, as in data.slices=(.+)_slice_(\d+)",
        )


def _split(
    material: Material, spec: Spec, ratios: tuple[float, float, float]
) -> tuple[dict[str, Split], dict[str, int] | None]:
    """The parts, and where folds are wanted, the fold in which each case validates."""
    if not spec.folds:
        return dict(material.split), None
    divisions = divide_all(
        material.survey, folds=material.folds, ratios=ratios, seed=spec.split_seed
    )
    validated = {
        case: number
        for number, division in enumerate(divisions)
        for case, part in division.parts.items()
        if part == "val"
    }
    parts: dict[str, Split] = dict(divisions[0].parts)
    parts |= dict.fromkeys(validated, "train")
    return parts, validated


def _check_unseen(entry: DataEntry, spec: Spec, console: Console) -> Checked:
    settings = spec.data_recipe(entry).data
    _announce(console, "unseen", entry)
    try:
        dataset = open_dataset(entry.place, layout=entry.layout, group_pattern=entry.group_pattern)
        with counting_bar(console) as bar:
            task = bar.add_task("checking images", total=len(dataset.cases))
            survey = check_dataset(
                dataset,
                snap=settings.snap_masks,
                max_pixels=settings.max_pixels,
                progress=lambda done, total: bar.update(task, completed=done),
            )
        errors = [problem for problem in survey.errors if problem.kind not in KINDS]
        if errors:
            first = errors[0]
            raise DataError(
                entry.path,
                f"{plural(len(errors), 'error')} in the data",
                f"The first is {first.where}: {first.found}. {first.remedy}",
            )
        if not survey.usable:
            raise DataError(entry.path, "it has no labelled cases", "Add masks")
        scored = len(gather(survey.usable, pictures=settings.slices))
    except MedsegError as error:
        return Checked(error=str(error))
    return Checked(
        survey=survey,
        hash=data_hash(case_hashes(survey)),
        cases={"scored": scored},
    )


def _misfits(
    entry: DataEntry, spec: Spec, checked: Mapping[str, Checked], console: Console
) -> dict[str, str]:
    """What is trained on and has other classes than the unseen data ``entry``."""
    survey = checked[entry.name].survey
    others = {data.name: checked[data.name].survey for data in spec.data if data.name != entry.name}
    usable = {name: other.labels for name, other in others.items() if other and other.labels}
    if survey is None or survey.labels is None or not usable:
        return {}
    inferred = survey.dataset.labels is None
    found = {}
    for name, labels in usable.items():
        try:
            agree(survey.labels, inferred, labels, entry.place)
            # The one class of masks without names need not be the class that has its value.
            fits = not inferred or len(survey.labels.labels) > 2 or len(labels.labels) == 2
        except DataError:
            fits = False
        if not fits:
            found[name] = (
                f"{name} has the classes {', '.join(labels.names)}, and {entry.name} "
                f"{', '.join(survey.labels.names)}"
            )
    if len(found) == len(usable) and entry.name not in (data.name for data in spec.data):
        raise DataError(
            f"unseen: {entry.name}",
            f"nothing can be scored on it: {'; '.join(found.values())}",
            "Leave it out, or name its classes in a labels.json as those trained on are",
        )
    for reason in found.values():
        console.print(
            f"[yellow]warning[/] {escape(reason)}: models of the one are not scored on the other",
            highlight=False,
            soft_wrap=True,
        )
    return found


def _overlaps(spec: Spec, checked: Mapping[str, Checked], console: Console) -> tuple[Overlap, ...]:
    found = []
    for data in spec.data:
        for unseen in spec.unseen:
            one, two = checked[data.name].survey, checked[unseen.name].survey
            if data.name == unseen.name or one is None or two is None:
                continue
            (overlap,) = find_overlaps([one, two])
            # Of what is trained on elsewhere, the test part is scored, else all.
            placed = checked[unseen.name].parts or {}
            scored = {case for case, part in placed.items() if part == "test"}
            pairs = tuple(
                (pair.first, pair.second)
                for pair in overlap.pairs
                if not scored or pair.second in scored
            )
            parts = checked[data.name].parts or {}
            learnt = {second for first, second in pairs if parts.get(first) in ("train", "val")}
            if pairs:
                found.append(Overlap(data.name, unseen.name, pairs, len(learnt)))
                console.print(
                    f"[yellow]warning[/] {escape(unseen.name)} shares "
                    f"{plural(len(pairs), 'pair')} of alike images with {escape(data.name)}; "
                    f"{plural(len(learnt), 'case')} of it are like one that is trained or chosen "
                    "on, so its scores are too good",
                    highlight=False,
                    soft_wrap=True,
                )
    return tuple(found)
