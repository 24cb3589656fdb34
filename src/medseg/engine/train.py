"""From a folder of images and masks to a run: what `medseg train` does."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedDataParallelKwargs
from rich.console import Console
from rich.markup import escape
from safetensors.torch import save as to_safetensors

from medseg.data.cache import CacheSettings, CaseCache, channel_statistics, open_cache
from medseg.data.case import Case, Split
from medseg.data.integrity import Survey, check_dataset
from medseg.data.layouts import open_dataset
from medseg.data.splits import make_split, read_split, write_split
from medseg.engine import plan
from medseg.engine.device import choose_device, choose_precision, keep_freed_memory
from medseg.engine.loop import Interrupted, TrainingLoop
from medseg.engine.progress import TrainingProgress, counting_bar
from medseg.errors import DataError, MedsegError, RecipeError, plural
from medseg.files import write_text
from medseg.inference.bundle import SUFFIX, Manifest, Preprocessing, StoredLabel, write_bundle
from medseg.methods.method import Method
from medseg.methods.supervised import Supervised
from medseg.models import create_model, network_options
from medseg.nn.blocks import count_parameters
from medseg.recipe import Recipe, apply_settings, load_recipe, parse_recipe
from medseg.systems import load_card

METHODS: Mapping[str, type[Method]] = {"supervised": Supervised}

DEFAULT_SYSTEM = "med2d-segnet"
DEFAULT_CACHE_LIMIT = 20_000_000_000


@dataclass(frozen=True)
class Run:
    """The folder that training leaves.

    Attributes:
        folder: holds ``recipe.yaml``, ``split.csv``, ``data.json``, ``metrics.jsonl``,
            ``checkpoints/`` and ``model.medseg``.
        recipe: fully resolved.
        val_dice: best validation Dice, at the network's image size.
        epochs: that were trained.
    """

    folder: Path
    recipe: Recipe
    val_dice: float
    epochs: int

    @property
    def bundle(self) -> Path:
        """The portable model."""
        return self.folder / f"model{SUFFIX}"


def is_leader() -> bool:
    """Whether this is the only process or, under torchrun, the first."""
    return os.environ.get("RANK", "0") == "0"


def make_recipe(values: Mapping[str, Any], settings: Sequence[str]) -> Recipe:
    """The recipe of a system: its card's values, then ``values``, then ``a.b=c`` settings.

    Args:
        values: by dotted key; ``system`` names the system, default ``med2d-segnet``.
        settings: as text, e.g. ``"train.epochs=50"``.

    Raises:
        RecipeError: an unknown key, option or value; found before any data is read.
    """
    system = values.get("system", DEFAULT_SYSTEM)
    card = {} if system.endswith(".py") else load_card(system).recipe
    merged: dict[str, Any] = {"system": system}
    for key, value in {**card, **values}.items():
        section, dot, name = key.partition(".")
        if dot:
            merged.setdefault(section, {})[name] = value
        else:
            merged[section] = value
    recipe = parse_recipe(apply_settings(merged, settings))
    options = network_options(recipe.system, recipe.network)
    create_model(recipe.system, **recipe.network)
    return recipe.model_copy(update={"network": options})


def train(
    data: str | Path,
    *,
    system: str | None = None,
    output: str | Path | None = None,
    epochs: int | str | None = None,
    image_size: int | None = None,
    batch_size: int | str | None = None,
    fold: int | None = None,
    seed: int | None = None,
    patience: int | str | None = None,
    precision: str | None = None,
    group_pattern: str | None = None,
    split: str | Path | None = None,
    settings: Sequence[str] = (),
    device: str = "auto",
    resume: bool = False,
    cache_dir: str | Path | None = None,
    cache_limit: int = DEFAULT_CACHE_LIMIT,
    quiet: bool = False,
) -> Run:
    """Train a system on a dataset.

    Args:
        data: a folder or manifest (`docs/data.md`).
        system: a name (`medseg systems list`) or a Python file with one network; default
            ``med2d-segnet``.
        output: the run's folder; default ``runs/DATA-SYSTEM``, numbered when taken.
        epochs: passes over the training part; this and what follows override the recipe.
        image_size: pixels a side at which the network sees images.
        batch_size: images per step over all processes.
        fold: validate on this fold.
        seed: of the split, the weights, the order and the augmentation.
        patience: epochs without improvement before stopping.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        group_pattern: regular expression that finds the patient in a case id.
        split: a CSV of `medseg data split`, instead of drawing one; it must not divide a patient.
        settings: any recipe values as ``"a.b=c"`` text, applied last.
        device: ``auto``, ``cpu``, ``cuda:0`` or ``mps``.
        resume: continue the run in ``output``; its recipe then holds, and what is given here must
            not contradict it.
        cache_dir: where decoded images are kept; default ``RUN/cache``.
        cache_limit: bytes the cache folder may take.
        quiet: print nothing.

    Returns:
        The finished run.

    Raises:
        MedsegError: anything the user can mend; nothing half-written is left.
        Interrupted: on SIGINT, after saving.
    """
    given = {
        "system": system,
        "train.epochs": epochs,
        "data.image_size": image_size,
        "train.batch_size": batch_size,
        "data.fold": fold,
        "seed": seed,
        "train.patience": patience,
        "train.precision": precision,
        "data.group_pattern": group_pattern,
    }
    values = {key: value for key, value in given.items() if value is not None}
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    quiet = quiet or not is_leader()
    console = Console(stderr=True, quiet=quiet)
    root = Path(data)
    folder = Path(output) if output is not None else _free_folder(root, system)
    recipe = _recipe_of_run(folder, values, settings, resume)
    where = choose_device(device)
    if where.type == "cpu":
        keep_freed_memory()

    survey = _checked(root, recipe, Path(split) if split is not None else None, console)
    chosen = _split_of_run(folder, survey, recipe, resume)
    accelerator = _accelerator(where, choose_precision(recipe.train.precision, where))
    parts = _parts(survey, chosen)
    recipe = plan.resolve(
        recipe,
        cases=len(parts["train"]),
        channels=survey.channels if recipe.data.channels == "auto" else recipe.data.channels,
        device=where.type,
        precision=choose_precision(recipe.train.precision, where),
        processes=processes,
    )
    _check_batch(recipe, len(parts["train"]), processes)
    cache = _cache(folder, survey, [*parts["train"], *parts["val"]], recipe, accelerator,
                   cache_dir, cache_limit, console)  # fmt: skip
    train_rows = cache.rows([case.id for case in parts["train"]])
    normalisation = channel_statistics(cache.images, train_rows)

    loop = TrainingLoop(
        _method(recipe, survey),
        recipe,
        cache,
        train_rows=train_rows,
        val_rows=cache.rows([case.id for case in parts["val"]]),
        normalisation=normalisation,
        folder=folder,
        accelerator=accelerator,
    )
    if resume and loop.last.is_file():
        loop.resume()
    if accelerator.is_main_process:
        write_split(folder / "split.csv", chosen, survey.dataset.cases)
        write_text(folder / "data.json", json.dumps(_data_facts(survey, parts, cache), indent=1))
        # The recipe comes last: a folder that has one can be resumed.
        recipe.save(folder / "recipe.yaml")
    _announce(console, folder, recipe, survey, parts, cache, loop, accelerator)
    with TrainingProgress(
        console, steps=loop.steps, done=loop.steps_done, epochs=loop.epochs, quiet=quiet
    ) as progress:
        try:
            state = loop.run(progress)
        except Interrupted:
            raise Interrupted(
                "Stopped and saved. Continue with: "
                f"medseg train {quote(str(root))} -o {quote(str(folder))} --resume"
            ) from None
    if accelerator.is_main_process:
        _write_model(folder, recipe, survey, parts, cache, loop, normalisation)
    accelerator.wait_for_everyone()
    return Run(folder, recipe, state.best_dice, state.epoch)


def _free_folder(data: Path, system: str | None) -> Path:
    name = f"{data.resolve().stem}-{Path(system or DEFAULT_SYSTEM).stem}"
    folder = Path("runs") / name
    number = 2
    while folder.exists():
        folder = Path("runs") / f"{name}-{number}"
        number += 1
    return folder


def _recipe_of_run(
    folder: Path, values: Mapping[str, Any], settings: Sequence[str], resume: bool
) -> Recipe:
    stored = folder / "recipe.yaml"
    if not resume:
        _check_output(folder)
        return make_recipe(values, settings)
    if not stored.is_file():
        raise MedsegError(
            f"--resume {folder}", "there is no run to continue in it", "Leave --resume out"
        )
    recipe = load_recipe(stored)
    texts = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    asked = parse_recipe(apply_settings(recipe.model_dump(mode="json"), [*texts, *settings]))
    if asked != recipe:
        before, after = _flat(recipe), _flat(asked)
        changed = sorted(key for key in before.keys() | after.keys()
                         if before.get(key) != after.get(key))  # fmt: skip
        raise RecipeError(
            f"--resume {folder}",
            f"the run was begun with another {', '.join(changed)}",
            "Leave those options out, or start a new run with another -o",
        )
    network_options(recipe.system, recipe.network)
    return recipe


def _check_output(folder: Path) -> None:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise MedsegError(
            f"-o {folder}", f"{existing} is not a folder that can be written",
            "Choose another folder",
        )  # fmt: skip
    # Left by a training that was killed before its first step; such a run cannot be resumed.
    begun = {"cache", "split.csv", "data.json"}
    if existing == folder and not {entry.name for entry in folder.iterdir()} <= begun:
        raise MedsegError(
            f"-o {folder}", "it exists and is not empty",
            "Choose another folder, or add --resume to continue the run in it",
        )  # fmt: skip


def _flat(recipe: Recipe) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for section, value in recipe.model_dump(mode="json").items():
        if isinstance(value, dict):
            flat |= {f"{section}.{key}": inner for key, inner in value.items()}
        else:
            flat[section] = value
    return flat


def _checked(root: Path, recipe: Recipe, split: Path | None, console: Console) -> Survey:
    dataset = open_dataset(root, group_pattern=recipe.data.group_pattern)
    if split is not None:
        parts = read_split(split, dataset.cases)
        cases = tuple(replace(case, split=parts.get(case.id)) for case in dataset.cases)
        dataset = replace(dataset, cases=cases)
    with counting_bar(console) as bar:
        task = bar.add_task("checking images", total=len(dataset.cases))
        survey = check_dataset(
            dataset,
            snap=recipe.data.snap_masks,
            max_pixels=round(recipe.data.max_megapixels * 1e6),
            progress=lambda done, total: bar.update(task, completed=done),
        )
    for problem in survey.warnings:
        text = escape(f"{problem.where}: {problem.found}")
        console.print(f"[yellow]warning[/] {text}", highlight=False)
    if survey.errors:
        lines = [f"{p.where}: {p.found}. {p.remedy}" for p in survey.errors[:20]]
        if len(survey.errors) > 20:
            lines.append(f"... and {len(survey.errors) - 20} more")
        raise DataError(
            root,
            f"{plural(len(survey.errors), 'error')} in the data",
            "\n  ".join([f"`medseg data check {quote(str(root))}` shows all:", *lines]),
        )
    if len(survey.usable) < 2:
        raise DataError(
            root, f"it has {plural(len(survey.usable), 'labelled case')}",
            "At least 2 are needed: one to train on and one to check with",
        )  # fmt: skip
    return survey


def _split_of_run(folder: Path, survey: Survey, recipe: Recipe, resume: bool) -> dict[str, Split]:
    if resume:
        return read_split(folder / "split.csv", survey.dataset.cases)
    return make_split(
        survey.usable,
        duplicates=survey.contents,
        ratios=recipe.data.ratios,
        seed=recipe.seed,
        fold=recipe.data.fold,
        folds=recipe.data.folds,
    )


def _parts(survey: Survey, split: Mapping[str, Split]) -> dict[Split, list[Case]]:
    parts: dict[Split, list[Case]] = {"train": [], "val": [], "test": []}
    for case in survey.usable:
        if case.id in split:
            parts[split[case.id]].append(case)
    for name in ("train", "val"):
        if not parts[name]:
            raise DataError(
                survey.dataset.root, f"the {name} part is empty",
                "Add labelled cases or change data.ratios",
            )  # fmt: skip
    return parts


def _check_batch(recipe: Recipe, cases: int, processes: int) -> None:
    batch = recipe.train.batch_size
    assert isinstance(batch, int)
    if batch % processes:
        raise RecipeError(
            f"--batch-size {batch}", f"it is not a multiple of the {processes} processes",
            f"Use {max(1, batch // processes) * processes}",
        )  # fmt: skip
    if batch > cases:
        raise RecipeError(
            f"--batch-size {batch}", f"only {plural(cases, 'training image')} to take them from",
            f"Use at most {cases}",
        )  # fmt: skip


def _accelerator(device: torch.device, precision: str) -> Accelerator:
    if not torch.distributed.is_initialized():
        # accelerate keeps the first call's device and precision for the whole process.
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    torch.use_deterministic_algorithms(True, warn_only=True)
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no" if precision == "fp32" else precision,
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )


def _cache(
    folder: Path,
    survey: Survey,
    cases: Sequence[Case],
    recipe: Recipe,
    accelerator: Accelerator,
    cache_dir: str | Path | None,
    limit: int,
    console: Console,
) -> CaseCache:
    facts = {each.id: each for each in survey.cases}
    assert survey.labels is not None
    assert recipe.data.channels != "auto"
    settings = CacheSettings(
        image_size=recipe.data.image_size,
        channels=recipe.data.channels,
        labels=survey.labels,
        snap=recipe.data.snap_masks,
        max_pixels=round(recipe.data.max_megapixels * 1e6),
    )
    hashes = [f"{facts[c.id].image_sha256}{facts[c.id].mask_sha256}" for c in cases]
    place = Path(cache_dir) if cache_dir is not None else folder / "cache"
    with accelerator.main_process_first(), counting_bar(console) as bar:
        task = bar.add_task("caching images", total=len(cases))
        return open_cache(
            cases, hashes, settings, place, limit=limit,
            progress=lambda done, total: bar.update(task, completed=done),
        )  # fmt: skip


def _method(recipe: Recipe, survey: Survey) -> Method:
    assert survey.labels is not None
    assert recipe.data.channels != "auto"
    torch.manual_seed(recipe.seed)
    network = create_model(
        recipe.system,
        in_channels=recipe.data.channels,
        num_classes=survey.labels.num_classes,
        **recipe.network,
    )
    return METHODS[recipe.method](network, recipe)


def _data_facts(
    survey: Survey, parts: Mapping[Split, Sequence[Case]], cache: CaseCache
) -> dict[str, Any]:
    assert survey.labels is not None
    return {
        "name": survey.dataset.root.resolve().stem,
        "layout": survey.dataset.layout,
        "hash": cache.folder.name,
        "images": {facts.id: facts.image_sha256[:16] for facts in survey.cases},
        "cases": {part: len(cases) for part, cases in parts.items()},
        "labels": [asdict(label) for label in survey.labels.labels],
        "rgb": survey.labels.rgb,
        "warnings": [problem.found for problem in survey.warnings],
    }


def _announce(
    console: Console,
    folder: Path,
    recipe: Recipe,
    survey: Survey,
    parts: Mapping[Split, Sequence[Case]],
    cache: CaseCache,
    loop: TrainingLoop,
    accelerator: Accelerator,
) -> None:
    assert survey.labels is not None
    counts = ", ".join(f"{len(parts[part])} {part}" for part in parts)
    lines = {
        "data": f"{survey.dataset.root} ({counts}; {', '.join(survey.labels.names)})",
        "system": f"{recipe.system}, {count_parameters(loop.method.network):,} parameters",
        "training": (
            f"{plural(loop.epochs, 'epoch')} of {plural(loop.steps_per_epoch, 'step')}, "
            f"{plural(loop.batch_size, 'image')} a step at {recipe.data.image_size} px, "
            f"{recipe.train.precision} on {accelerator.device.type}, patience {loop.patience}"
        ),
        "cache": (
            f"{cache.bytes / 1e6:.0f} MB in {cache.folder}{' (reused)' if cache.reused else ''}"
        ),
        "run": str(folder),
    }
    for name, text in lines.items():
        console.print(f"[bold]{name:9}[/]{escape(text)}", highlight=False)
    if loop.steps_done:
        console.print(
            f"[bold]{'resumed':9}[/]at epoch {loop.state.epoch + 1}, step {loop.state.step}",
            highlight=False,
        )


def _write_model(
    folder: Path,
    recipe: Recipe,
    survey: Survey,
    parts: Mapping[Split, Sequence[Case]],
    cache: CaseCache,
    loop: TrainingLoop,
    normalisation: tuple[tuple[float, ...], tuple[float, ...]],
) -> None:
    assert survey.labels is not None
    assert recipe.data.channels != "auto"
    network = loop.best_network()
    weights = to_safetensors(
        {k: v.clone(memory_format=torch.contiguous_format) for k, v in network.state_dict().items()}
    )
    mean, std = normalisation
    facts = _data_facts(survey, parts, cache)
    images = facts.pop("images")
    manifest = Manifest(
        system=recipe.system,
        network=json.loads(json.dumps(recipe.network)),
        num_classes=survey.labels.num_classes,
        labels=tuple(StoredLabel(name=x.name, value=x.value) for x in survey.labels.labels),
        rgb=survey.labels.rgb,
        preprocessing=Preprocessing(
            image_size=recipe.data.image_size, channels=recipe.data.channels, mean=mean, std=std
        ),
        threshold=recipe.predict.threshold,
        recipe=recipe.model_dump(mode="json"),
        data=facts | {"seen": sorted(images[case] for case in cache.ids)},
        scores={"val_dice": loop.state.best_dice},
        parameters=count_parameters(loop.method.network),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
    )
    write_bundle(folder / f"model{SUFFIX}", manifest, weights)
