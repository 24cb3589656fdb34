"""Scoring masks, or a model, against the truth: what `medseg evaluate` does."""

from __future__ import annotations

import json
import math
import tempfile
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from medseg import zoo
from medseg.data.case import Case, Split
from medseg.data.groups import check_attribute, told_attributes
from medseg.data.layouts import is_dataset, open_dataset
from medseg.data.registry import described
from medseg.data.registry import find as find_registered
from medseg.data.slices import slices_if_all, volume_of
from medseg.data.splitfile import read_split
from medseg.engine.openings import Opening, log_opening, read_openings
from medseg.errors import DataError, MedsegError, ModelError
from medseg.inference.bundle import SUFFIX, Manifest, find_bundle, read_manifest
from medseg.inference.files import PredictOptions, predict_images
from medseg.inference.limit import as_bytes
from medseg.inference.predictor import load, prompts_refused
from medseg.metrics.conventions import convention_named
from medseg.metrics.evaluation import Evaluation
from medseg.metrics.folders import evaluate_folders
from medseg.metrics.pair import DEFAULT_TOLERANCE
from medseg.metrics.pairing import PREDICTIONS_FILE, Reading
from medseg.metrics.panel import DEFAULT_METRICS, EmptyPolicy, metrics_named

Part = Literal["auto", "train", "val", "test", "all"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Chosen:
    """The cases on which a model is to be scored.

    Attributes:
        cases: labelled.
        part: of the run's own split, or ``all``.
        seen: how many of them the run was trained or validated on.
        own: how many of them are among the data that the run knows.
        test: how many of them are in the test part of the run's own split.
    """

    cases: tuple[Case, ...]
    part: Part
    seen: int
    own: int
    test: int


def is_model(path: Path) -> bool:
    """Whether ``path`` names a bundle, a run, or a model that comes with medseg, rather than a
    folder of masks."""
    if path.suffix == SUFFIX or (path / "recipe.yaml").is_file():
        return True
    return not path.exists() and zoo.find(path) is not None


def evaluate(
    truth: str | Path,
    predictions: str | Path,
    *,
    part: Part = "auto",
    layout: str = "auto",
    group_pattern: str | None = None,
    masks: str | Path | None = None,
    empty_policy: EmptyPolicy = "one",
    device: str = "auto",
    tta: bool = False,
    max_ram: str | int | None = None,
    system: str | None = None,
    metrics: Sequence[str] = DEFAULT_METRICS,
    tolerance: float = DEFAULT_TOLERANCE,
    convention: str = "default",
    seed: int = 0,
    instances: bool = False,
    attributes: Sequence[str] = (),
    workers: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score predictions, or a model, against the truth.

    Args:
        truth: a dataset (folder or manifest) or a folder of masks.
        predictions: a folder of masks; or a run, a bundle or the name of a model that comes with
            medseg, which then predicts ``truth`` first.
        part: for a run: which part of its split to score. ``auto`` takes the test part of the
            data it was trained on, and all cases of any other data.
        layout: how ``truth`` lies on disk, where it cannot be recognised.
        group_pattern: a regular expression that finds the patient in a case id; for the data a
            model was trained on, that of its recipe.
        masks: for a model: where to write its masks, replacing earlier ones; by default they are
            not kept.
        empty_policy: what an empty truth met by an empty prediction is worth: ``one``, ``zero``,
            or ``skip`` it in the mean.
        device: for a model: where to compute.
        tta: for a model: average over flips.
        max_ram: for a model of volumes: what the process may hold in memory while it predicts,
            in bytes or as ``"2GB"``; scoring comes after that.
        system: for a model whose network came from a Python file: that file.
        metrics: names of :data:`medseg.metrics.panel.METRICS`; Dice is always among them.
        tolerance: of the surface Dice, in mm, or in pixels where the spacing is not known.
        convention: whose way of computing them: ``default``, ``monai``, ``deepmind``, ``nnunet``,
            ``medpy`` or ``pranet``; see :mod:`medseg.metrics.conventions`.
        seed: of the bootstrap.
        instances: masks number their objects (0 is background), and metrics of objects go by
            these numbers; see :func:`medseg.metrics.folders.evaluate_folders`.
        attributes: columns of ``truth`` whose groups are compared, besides ``group`` and
            ``group:NAME``; on the data of a model also that of its recipe.
        workers: processes that read and score masks; by default one for each core where there
            are many masks.
        progress: called with (done, total).

    Raises:
        MedsegError: anything the user can mend.
    """
    limit = as_bytes(max_ram)
    # Said before an hour of predictions rather than after it.
    metrics, rules = metrics_named(metrics), convention_named(convention)
    if not 0 <= tolerance < math.inf:
        raise MedsegError(
            f"--tolerance {tolerance}", "it is not a distance", "Give 0 or more, in mm or pixels"
        )
    if seed < 0:
        raise MedsegError(f"--seed {seed}", "it is negative", "Give 0 or more")
    if workers is not None and workers < 1:
        raise MedsegError(f"--workers {workers}", "there must be one", "Give 1 or more")
    truth, predictions = Path(truth), Path(predictions)
    if is_model(truth) and find_registered(truth) is None:
        raise MedsegError(
            truth,
            "this is a model, not the truth",
            "Name the true masks or the dataset first, then the model",
        )
    if not is_model(predictions):
        if part != "auto":
            raise MedsegError(
                f"--part {part}", "a folder of masks has no parts", "Give a run instead of masks"
            )
        of_models = {
            "--masks": masks, "--tta": tta, "--max-ram": max_ram, "--system": system,
        }  # fmt: skip
        for option, given in of_models.items():
            if given:
                raise MedsegError(
                    option, "it is for a model, and these are masks", "Leave it out, or give a run"
                )
        evaluation = evaluate_folders(
            truth,
            predictions,
            layout=layout,
            group_pattern=group_pattern,
            empty_policy=empty_policy,
            metrics=metrics,
            tolerance=tolerance,
            convention=rules,
            seed=seed,
            instances=instances,
            attributes=attributes,
            workers=workers,
            progress=progress,
        )
        return replace(evaluation, note=_doubts(truth, evaluation))
    named, predictions = predictions, zoo.find(predictions) or predictions
    chosen = choose_cases(truth, predictions, part, layout=layout)
    for attribute in attributes:
        check_attribute(chosen.cases, attribute, truth)
    with ExitStack() as scratch:
        folder = Path(masks or scratch.enter_context(tempfile.TemporaryDirectory()))
        if read_manifest(find_bundle(predictions)).must_be_pointed:
            raise prompts_refused(predictions)
        model = load(predictions, device=device, system=system)
        slices = model.manifest.picture_slices
        if model.manifest.volume is None:
            # A model of images takes pictures of any names.
            pictures = [case.id for case in chosen.cases if volume_of(case.image) is None]
            slices = slices_if_all(slices, pictures)
        predict_images(
            model,
            {case.id: case.image for case in chosen.cases},
            folder,
            options=PredictOptions(
                tta=tta,
                probabilities=any(rules.needs_probability(name) for name in metrics),
                max_ram=limit,
            ),
            # Masks that are there may be those of other images of the same names.
            overwrite=True,
            progress=progress,
            slices=slices,
        )
        recipe = model.manifest.recipe.get("data", {})
        snap = recipe.get("snap_masks", "auto")
        if group_pattern is None and chosen.own:
            group_pattern = recipe.get("group_pattern")
        if chosen.own and recipe.get("attribute") in told_attributes(chosen.cases):
            attributes = [*attributes, recipe["attribute"]]
        try:
            evaluation = evaluate_folders(
                truth,
                folder,
                layout=layout,
                group_pattern=group_pattern,
                empty_policy=empty_policy,
                only=[case.id for case in chosen.cases],
                # Where values are snapped, they do not tell the classes; the model knows them.
                labels=model.labels if snap == "always" else None,
                reading=Reading(snap, model.max_pixels),
                metrics=metrics,
                tolerance=tolerance,
                convention=rules,
                seed=seed,
                instances=instances,
                slices=slices,
                attributes=attributes,
                workers=workers,
            )
        except DataError as error:
            if masks is None and error.where == str(folder):
                # The user knows the model, not where its masks lay for a moment.
                raise DataError(predictions, error.found, error.remedy) from error
            raise
        evaluation = replace(
            evaluation,
            truth=described(truth) + (f" ({chosen.part} part)" if chosen.part != "all" else ""),
            predictions=str(named),
        )
        opened, note = log_scoring(predictions, model.manifest, evaluation.truth, chosen)
        evaluation = replace(evaluation, test_openings=opened, note=note)
        # A report drawn from the evaluation still reads the masks.
        weakref.finalize(evaluation, scratch.pop_all().close)
    return evaluation


def log_scoring(model: Path, manifest: Manifest, scored: str, chosen: Chosen) -> tuple[int, str]:
    """Log in the run that test cases were looked at.

    Args:
        model: a run or bundle.
        manifest: its.
        scored: what was looked at, in words.
        chosen: the cases.

    Returns:
        How often the run's test part has been looked at, 0 where it was not now; and what to know
        before believing the scores.
    """
    note, opened = [_leak(manifest, model, chosen), _note(chosen)], 0
    if chosen.test:
        opened, warning = _open_test(model, manifest, scored, chosen.test)
        note.append(warning)
    return opened, " ".join(filter(None, note))


def _doubts(truth: Path, evaluation: Evaluation) -> str:
    """What looks as if the wrong folders were compared."""
    if (truth / PREDICTIONS_FILE).is_file():
        return (
            f"The truth {truth} holds a {PREDICTIONS_FILE}, as predictions do: are the two "
            "swapped? The truth comes first."
        )
    agree = all(row.metrics["dice"] == 1 for row in evaluation.rows)
    if agree and any(row.truth_pixels for row in evaluation.rows):
        return "Every Dice is exactly 1: are these predictions the truth itself?"
    return ""


def choose_cases(truth: Path, model: Path, part: Part, *, layout: str = "auto") -> Chosen:
    """The cases of ``truth`` that ``part`` names for the run or bundle ``model``.

    A case counts as the run's own when its image has the same content as in training.

    Raises:
        DataError: no such cases.
        MedsegError: a part of the split is asked for that this model does not know.
    """
    if layout == "auto" and truth.is_dir() and not is_dataset(truth):
        raise DataError(
            truth,
            "it is not a dataset, so there are no images to predict",
            "Give a folder with images/ and masks/, or a manifest",
        )
    dataset = open_dataset(truth, layout=layout)
    labelled = tuple(case for case in dataset.cases if case.mask is not None)
    split, images = _memory_of_run(model)
    seen = set(read_manifest(find_bundle(model)).data.get("seen", ()))
    hashes = {case.id: case.image.sha256()[:16] for case in labelled}
    own = {case.id for case in labelled if images.get(case.id) == hashes[case.id]}
    known = set(images.values())
    sealed, learnt = (
        {images.get(case, "") for case, where in split.items() if (where == "test") is part}
        for part in (True, False)
    )
    if part == "auto":
        part = "test" if own and own >= split.keys() else "all"
    if part == "all":
        cases = labelled
    elif not own:
        raise MedsegError(
            f"--part {part}",
            f"{model} does not know how {truth} was split",
            "Give the run's folder and the data it was trained on, or --part all",
        )
    else:
        cases = tuple(case for case in labelled if case.id in own and split.get(case.id) == part)
    if not cases:
        raise DataError(truth, f"it has no labelled cases in the part {part!r}", "Try --part val")
    # By content, so that renaming an image does not make it another.
    scored = [hashes[case.id] for case in cases]
    seen_cases, own_cases, test_cases = (
        sum(image in images_of for image in scored) for images_of in (seen, known, sealed - learnt)
    )
    return Chosen(cases, part, seen_cases, own_cases, test_cases)


def _leak(manifest: Manifest, model: Path, chosen: Chosen) -> str:
    """What was said of the run's split when it was trained, where its own data are scored."""
    # A model file on its own does not know which images its test part held.
    bare = not _memory_of_run(model)[1]
    return str(manifest.data.get("leak", "")) if chosen.own or chosen.seen or bare else ""


def _open_test(model: Path, manifest: Manifest, scored: str, cases: int) -> tuple[int, str]:
    """Log that the test part was looked at: how often by now, and what is wrong with that."""
    run = _run_folder(model)
    earlier = read_openings(run)
    weights = manifest.weights_sha256
    warnings = []
    if any(opening.get("weights_sha256") != weights for opening in earlier):
        warnings.append(
            "The test part had been opened before with other weights: choices made since are not "
            "blind to it."
        )
    try:
        log_opening(run, Opening(scored, cases, weights, str(manifest.data.get("hash", ""))))
    except OSError as error:
        reason = error.strerror or str(error)
        warnings.append(f"This opening of the test part could not be logged in {run} ({reason}).")
        return len(earlier) + 1, " ".join(warnings)
    return len(read_openings(run)), " ".join(warnings)


def _run_folder(model: Path) -> Path:
    return model if model.is_dir() else model.parent


def _note(chosen: Chosen) -> str:
    if chosen.part == "train":
        return "Training cases: these scores do not say how good the model is on new images."
    if chosen.part == "val":
        return "Validation cases: they chose the checkpoint, so these scores are a little too good."
    if chosen.seen:
        return f"Leak: {chosen.seen} of these {len(chosen.cases)} images were trained or chosen on."
    return ""


def _memory_of_run(model: Path) -> tuple[dict[str, Split], dict[str, str]]:
    """Case id to part, and case id to the start of its image's hash; empty for a bare bundle."""
    folder = _run_folder(model)
    split_file, data_file = folder / "split.csv", folder / "data.json"
    if not (split_file.is_file() and data_file.is_file()):
        return {}, {}
    split = dict(read_split(split_file).parts)
    try:
        images = dict(json.loads(data_file.read_text(encoding="utf-8"))["images"])
        return split, {str(case): str(image) for case, image in images.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            data_file, f"it is damaged ({error!r})", "Score the model.medseg inside the run instead"
        ) from error
