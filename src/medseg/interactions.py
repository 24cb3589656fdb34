"""How many interactions a promptable model needs: `medseg evaluate --interactions`."""

from __future__ import annotations

import csv
import io
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from medseg.data.case import IGNORE, Case, Dataset, Label, LabelMap
from medseg.data.labels import count_values, infer_label_map, read_classes
from medseg.data.layouts import open_dataset
from medseg.data.prompts import Kind, Prompts, in_words
from medseg.data.registry import described
from medseg.data.simulate_prompts import next_click, random_scribble, simulated_box
from medseg.errors import DataError, MedsegError, ModelError
from medseg.files import atomic_path, write_text
from medseg.inference.predictor import load
from medseg.inference.promptable import PromptableModel
from medseg.inference.session import Session
from medseg.metrics.statistics import Interval, bootstrap_mean
from medseg.scoring import Chosen, Part, choose_cases, log_scoring

Way = Literal["point", "box", "scribble"]
WAYS: tuple[Way, ...] = get_args(Way)
_KINDS: Mapping[Way, tuple[Kind, ...]] = {
    "point": ("point",),
    "box": ("box", "point"),
    "scribble": ("scribble",),
}
REACHED = (0.8, 0.9)
"""Dice for which the interactions that it takes are counted."""
SUFFIXES = (".csv", ".json", ".svg", ".png")

Region = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Course:
    """One structure of one case, answered again after each interaction.

    Attributes:
        case: its id.
        patient: what is resampled together: the patient where it is known, else the case.
        structure: the class's name.
        pixels: of the structure.
        dice: after 1, 2 ... interactions.
    """

    case: str
    patient: str
    structure: str
    pixels: int
    dice: tuple[float, ...]

    def needed(self, dice: float) -> float:
        """Interactions until ``dice`` is reached; infinite where it is not."""
        return next((n for n, found in enumerate(self.dice, 1) if found >= dice), math.inf)


@dataclass(frozen=True)
class Interactions:
    """Dice over the number of interactions.

    Attributes:
        truth: what was asked about.
        model: what answered.
        way: how the simulated person points: ``point``, ``scribble``, or ``box``, which is a box
            first and then points.
        courses: of all structures.
        seed: of the simulation and the bootstrap.
        note: what to know before believing the numbers.
    """

    truth: str
    model: str
    way: Way
    courses: tuple[Course, ...]
    seed: int = 0
    note: str = ""

    @property
    def count(self) -> int:
        """Interactions with each structure."""
        return len(self.courses[0].dice)

    def means(self) -> tuple[Interval, ...]:
        """Mean Dice after 1, 2 ... interactions, with 95 % intervals over patients."""
        patients = [course.patient for course in self.courses]
        return tuple(
            bootstrap_mean(
                [course.dice[n] for course in self.courses], groups=patients, seed=self.seed
            )
            for n in range(self.count)
        )

    def needed(self, dice: float) -> tuple[float, int]:
        """Mean number of interactions until ``dice`` is reached, counting one more than there
        were where it is not; and how many structures never reach it."""
        each = [course.needed(dice) for course in self.courses]
        never = sum(math.isinf(n) for n in each)
        return float(np.mean([min(n, self.count + 1) for n in each])), never

    def as_json(self) -> dict[str, Any]:
        """All of it, for other programs."""
        return {
            "truth": self.truth,
            "model": self.model,
            "way": self.way,
            "seed": self.seed,
            "note": self.note,
            "dice": [
                {"interactions": n, "mean": mean.mean, "low": mean.low, "high": mean.high}
                for n, mean in enumerate(self.means(), 1)
            ],
            "needed": [
                {"dice": dice, "mean": self.needed(dice)[0], "never": self.needed(dice)[1]}
                for dice in REACHED
            ],
            "courses": [asdict(course) for course in self.courses],
        }

    def as_csv(self) -> str:
        """A line for each structure and number of interactions."""
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(("case", "patient", "structure", "pixels", "interactions", "dice"))
        for course in self.courses:
            for n, dice in enumerate(course.dice, 1):
                head = (course.case, course.patient, course.structure, course.pixels)
                lines.writerow((*head, n, f"{dice:.6f}"))
        return text.getvalue()

    def save(self, path: Path) -> None:
        """Write ``.csv``, ``.json``, or the curve as ``.svg`` or ``.png``.

        Raises:
            MedsegError: another suffix.
        """
        suffix = path.suffix.lower()
        check_suffix(path)
        if suffix == ".csv":
            write_text(path, self.as_csv())
        elif suffix == ".json":
            write_text(path, json.dumps(self.as_json(), indent=1))
        else:
            with atomic_path(path) as part:
                self._figure().savefig(part, format=suffix[1:], dpi=150)

    def _figure(self) -> Any:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        axes = figure.subplots()
        numbers, means = range(1, self.count + 1), self.means()
        middle = np.array([mean.mean for mean in means], np.float64)
        axes.plot(numbers, middle, "o-", color="#0072b2", markersize=4)
        bounds = [(mean.low, mean.high) for mean in means if mean.low is not None]
        if len(bounds) == self.count:
            low, high = zip(*bounds, strict=True)
            axes.fill_between(numbers, low, high, color="#0072b2", alpha=0.2, linewidth=0)
        axes.set(xlabel=f"interactions ({self.way})", ylabel="Dice", ylim=(0, 1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", alpha=0.3)
        axes.set_title(f"{len(self.courses)} structures", loc="left", fontsize=10)
        return figure


def check_suffix(path: Path) -> None:
    """Refuse a file that :meth:`Interactions.save` cannot write.

    Raises:
        MedsegError: it has another suffix.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise MedsegError(
            path,
            f"'{path.suffix}' is not a format for interactions",
            "Use .csv, .json, .svg or .png",
        )


def measure_interactions(
    truth: str | Path,
    model: str | Path,
    *,
    interactions: int = 10,
    way: Way = "point",
    part: Part = "auto",
    layout: str = "auto",
    group_pattern: str | None = None,
    device: str = "auto",
    system: str | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Interactions:
    """Let a simulated person segment every structure of ``truth`` with ``model``.

    A point goes to the middle of the largest piece of what is wrong, see
    :func:`medseg.data.simulate_prompts.next_click`; a scribble goes over the larger of what is
    missing and what is too much; a box is that of the structure. Each answer is where the next
    interaction starts from. Slices of volumes are images by themselves; cases that show no
    structure are left out.

    Args:
        truth: a dataset (folder or manifest).
        model: a run or bundle of a network that takes prompts.
        interactions: with each structure; where nothing is wrong any more, the answer stays.
        way: how the person points.
        part: which part of the run's split, as for :func:`medseg.evaluate`.
        layout: how ``truth`` lies on disk, where it cannot be recognised.
        group_pattern: finds the patient in a case id; by default as in training.
        device: where to compute.
        system: for a model whose network came from a Python file: that file.
        seed: of the scribbles and the bootstrap.
        progress: called with (done, total) cases.

    Raises:
        MedsegError: anything the user can mend.
    """
    if interactions < 1:
        raise MedsegError(f"--interactions {interactions}", "there must be one", "Give 1 or more")
    if way not in WAYS:
        raise MedsegError(f"--by {way}", "there is no such way", f"Use {', '.join(WAYS)}")
    truth, model = Path(truth), Path(model)
    loaded = load(model, device=device, system=system)
    if not isinstance(loaded, PromptableModel):
        raise ModelError(
            model, "it takes no prompts, so there is nothing to interact with",
            "Leave --interactions out",
        )  # fmt: skip
    taken = loaded.manifest.prompts
    lacking = next((kind for kind in _KINDS[way] if kind not in taken), None)
    if lacking is not None:
        raise ModelError(
            f"--by {way}",
            f"{loaded.manifest.system} does not take {in_words([lacking])}",
            f"It takes {in_words(taken)}",
        )
    chosen = choose_cases(truth, model, part, layout=layout)
    if group_pattern is None and chosen.own:
        group_pattern = loaded.manifest.recipe.get("data", {}).get("group_pattern")
    dataset = open_dataset(truth, layout=layout, group_pattern=group_pattern)
    patients = {case.id: case.patient or case.id for case in dataset.cases}
    labels = _labels(dataset, chosen, loaded)
    courses: list[Course] = []
    for done, case in enumerate(chosen.cases):
        if progress is not None:
            progress(done, len(chosen.cases))
        courses += _courses(case, patients[case.id], labels, loaded, interactions, way, seed)
    if progress is not None:
        progress(len(chosen.cases), len(chosen.cases))
    if not courses:
        raise DataError(truth, "none of its cases shows a structure", "Choose another --part")
    scored = described(truth) + (f" ({chosen.part} part)" if chosen.part != "all" else "")
    _, note = log_scoring(model, loaded.manifest, scored, chosen)
    return Interactions(scored, str(model), way, tuple(courses), seed, note)


def _labels(dataset: Dataset, chosen: Chosen, model: PromptableModel) -> LabelMap:
    """The classes of the truth: declared, else those of the training where these are its data,
    else inferred from the masks."""
    if dataset.labels is not None:
        return dataset.labels
    facts = model.manifest.data
    if chosen.own and facts.get("labels"):
        known = tuple(Label(each["name"], each["value"]) for each in facts["labels"])
        return LabelMap(known, rgb=bool(facts.get("rgb")))
    masks = {case.id: case.mask.read_mask() for case in chosen.cases if case.mask is not None}
    return infer_label_map(
        {case: count_values(mask) for case, mask in masks.items()},
        any(mask.lossy for mask in masks.values()),
        any(mask.rgb for mask in masks.values()),
    )


def _courses(
    case: Case,
    patient: str,
    labels: LabelMap,
    model: PromptableModel,
    interactions: int,
    way: Way,
    seed: int,
) -> Iterator[Course]:
    assert case.mask is not None
    settings = model.manifest.recipe.get("data", {})
    classes = read_classes(
        case.mask,
        labels,
        snap=settings.get("snap_masks", "auto"),
        field_of_view=case.field_of_view,
        max_pixels=model.max_pixels,
    )
    known = classes != IGNORE
    image = None
    for index, name in enumerate(labels.names):
        mask = classes == index
        if index == 0 or not mask.any():
            continue
        if image is None:
            image = case.image.read_image(max_pixels=model.max_pixels)
        random = np.random.default_rng([seed, zlib.crc32(case.id.encode()), index])
        session = model.session(image)
        dice: list[float] = []
        for _ in range(interactions):
            prompts = _next(session, mask, known, way, random)
            if prompts:
                session.add(prompts)
            dice.append(_dice(session.classes == 1, mask, known))
        yield Course(case.id, patient, name, int(mask.sum()), tuple(dice))


def _next(
    session: Session, mask: Region, known: Region, way: Way, random: np.random.Generator
) -> Prompts:
    """What the simulated person adds; nothing where nothing is wrong."""
    found = session.classes == 1
    if way == "box" and not session.interactions:
        return Prompts(boxes=(simulated_box(mask, random, jitter=0),))
    if way == "scribble":
        missing, excess = mask & ~found & known, found & ~mask & known
        larger = missing if missing.sum() >= excess.sum() else excess
        if not larger.any():
            return Prompts()
        strokes = random_scribble(larger, 1, random)
        nothing = np.zeros_like(strokes)
        both: Sequence[NDArray[np.float32]] = (
            (strokes, nothing) if larger is missing else (nothing, strokes)
        )
        return Prompts(scribbles=np.stack(both))
    click = next_click(mask, found, known)
    return Prompts() if click is None else Prompts(points=(click,))


def _dice(found: Region, truth: Region, known: Region) -> float:
    found = found & known
    return 2 * float((found & truth).sum()) / float(found.sum() + truth.sum())
