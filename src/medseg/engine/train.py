"""From a folder of images and masks to a run: what `medseg train` does."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list
from rich.console import Console
from rich.markup import escape

from medseg.data.cache import CaseCache
from medseg.data.fingerprint import take_fingerprint
from medseg.data.sentences import Sentences
from medseg.data.splitfile import write_split
from medseg.data.volumes.cache import VolumeCache
from medseg.engine.adapt import adapt, adaptation_of
from medseg.engine.device import (
    choose_device,
    choose_precision,
    keep_freed_memory,
    return_freed_memory,
)
from medseg.engine.feed import Feed, ImageFeed
from medseg.engine.finish import volume_input, write_model
from medseg.engine.initial import Origin, carry_over, find_origin, with_inheritance
from medseg.engine.loop import Interrupted, TrainingLoop
from medseg.engine.openings import read_openings
from medseg.engine.plan import Plan, make_plan
from medseg.engine.prepare import Material, Rows, measure_volumes, open_volumes, prepare, rows_of
from medseg.engine.progress import TrainingProgress, counting_bar
from medseg.engine.prompt_feed import PromptFeed
from medseg.engine.run import Run, free_folder, make_recipe, recipe_of_run
from medseg.engine.text_feed import TextFeed, sentences_for
from medseg.engine.volume_feed import VolumeFeed
from medseg.engine.volume_plan import make_volume_plan
from medseg.errors import MedsegError, RecipeError, plural
from medseg.files import write_text
from medseg.methods.interactive import Interactive
from medseg.methods.method import Method, TrainingData
from medseg.methods.registry import batch_unit, create_method, method_class
from medseg.methods.text_driven import TextDriven
from medseg.models import create_model, network_class
from medseg.nn.lora import merge
from medseg.recipe import Recipe

DEFAULT_CACHE_LIMIT = 20_000_000_000


def is_leader() -> bool:
    """Whether this is the only process or, under torchrun, the first."""
    return os.environ.get("RANK", "0") == "0"


def train(
    data: str | Path,
    *,
    system: str | None = None,
    output: str | Path | None = None,
    epochs: int | str | None = None,
    image_size: int | str | None = None,
    batch_size: int | str | None = None,
    fold: int | None = None,
    seed: int | None = None,
    patience: int | str | None = None,
    precision: str | None = None,
    group_pattern: str | None = None,
    layout: str | None = None,
    split: str | Path | None = None,
    allow_leak: bool | None = None,
    init: str | Path | None = None,
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
        layout: how the dataset lies on disk, where it cannot be recognised.
        split: a CSV of `medseg data split`, instead of drawing one.
        allow_leak: train although a patient or alike images stand in several parts of the split;
            every report then begins with it.
        init: a model to start from: a run folder, a bundle, or the name of one that comes with
            medseg. Its network is trained, unless ``system`` says another; weights are carried
            over where they fit.
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
    start = None if init is None else str(init)
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
        "data.layout": layout,
        "data.allow_leak": allow_leak,
        "init": start,
    }
    values = {key: value for key, value in given.items() if value is not None}
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    quiet = quiet or not is_leader()
    console = Console(stderr=True, quiet=quiet)
    root = Path(data)
    folder = Path(output) if output is not None else free_folder(root, system or start)
    if resume and output is None:
        raise RecipeError(
            "--resume", "it does not say which run to continue", "Name the run's folder with -o"
        )
    if resume and split is not None:
        raise RecipeError(
            f"--split {split}", "a resumed run keeps its own split", "Leave --split out"
        )
    recipe = recipe_of_run(folder, values, settings, resume=resume)
    origin, inherited = find_origin(recipe, folder, resume=resume)
    where = choose_device(device)
    if where.type == "cpu":
        keep_freed_memory()

    material = prepare(
        root,
        recipe,
        console,
        split=Path(split) if split is not None else None,
        stored=folder / "split.csv" if resume else None,
    )
    material = with_inheritance(material, inherited, allow=recipe.data.allow_leak)
    sentences = sentences_for(recipe, root, material)
    recipe = _as_found(recipe, material)
    precision = choose_precision(recipe.train.precision, where)
    # Side heads for deep supervision may have no gradient in a training without it, nor what
    # another phase moves.
    side_heads = hasattr(network_class(recipe.system), "forward_all") and recipe.network.get(
        "side_heads", True
    )
    several = len(method_class(recipe.method).phases) > 1
    accelerator = make_accelerator(where, precision, unused_parameters=side_heads or several)
    plan = _shared_plan(recipe, material, where, precision, processes, console)
    recipe = plan.recipe
    _check_batch(recipe, material, processes)
    place = Path(cache_dir) if cache_dir is not None else folder / "cache"
    cache: CaseCache | VolumeCache
    with accelerator.main_process_first():
        if material.dims == 3:
            cache = open_volumes(material, plan, place, limit=cache_limit, console=console)
        else:
            cache = material.cache(recipe, place, limit=cache_limit, console=console)
    rows = rows_of(material, cache)
    if getattr(network_class(recipe.system), "in_unit_range", False):
        channels = material.channels
        rows = replace(rows, mean=(0.0,) * channels, std=(1.0,) * channels)
    # What decoding took is not needed any more, and would add to the training's peak.
    return_freed_memory()

    method = _method(recipe, material, origin, console)
    recipe = recipe.model_copy(update={"adapt": method.recipe.adapt})
    feed = _feed(recipe, plan, method, cache, rows, accelerator, sentences)
    feed.grouping = material.grouping
    method.prepare(
        TrainingData(
            split=material.split,
            images=material.image_hashes(),
            num_classes=material.labels.num_classes,
            mean=rows.mean,
            std=rows.std,
            groups=() if material.grouping is None else material.grouping.names,
        )
    )
    loop = TrainingLoop(method, recipe, feed, folder=folder, accelerator=accelerator)
    if resume and loop.last.is_file():
        loop.resume()
    if accelerator.is_main_process:
        write_split(
            folder / "split.csv",
            material.split,
            material.survey.dataset.cases,
            clusters=material.survey.clusters,
            hashes=material.hashes,
        )
        remembered = material.facts(cache) | {"images": material.image_hashes()}
        if inherited:
            remembered |= {"init": dict(inherited)}
        write_text(folder / "data.json", json.dumps(remembered, indent=1))
        if not resume:
            plan.save(folder / "plan.json")
        # The recipe comes last: a folder that has one can be resumed.
        recipe.save(folder / "recipe.yaml")
    _announce(console, folder, plan, material, cache, loop)
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
    run = Run(folder, recipe, state.best_dice, state.epoch)
    if accelerator.is_main_process:
        volumes = (volume_input(material, plan), feed) if isinstance(feed, VolumeFeed) else None
        network = loop.best_network()
        merge(network)
        write_model(
            run, material, cache, rows, network,
            device=loop.device, console=console, volumes=volumes,
            sentences=() if sentences is None else sentences.first,
        )  # fmt: skip
    accelerator.wait_for_everyone()
    del loop
    return_freed_memory()
    return run


def _as_found(recipe: Recipe, material: Material) -> Recipe:
    """The recipe with what was found to be meant: the fold, how many there are, the attribute."""
    found: dict[str, Any] = {"fold": material.fold, "folds": material.folds}
    if material.grouping is not None and method_class(recipe.method).grouped:
        found["attribute"] = material.grouping.attribute
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=found)})


def plan_training(
    data: str | Path,
    *,
    system: str | None = None,
    group_pattern: str | None = None,
    layout: str | None = None,
    split: str | Path | None = None,
    allow_leak: bool | None = None,
    settings: Sequence[str] = (),
    device: str = "auto",
    quiet: bool = False,
) -> Plan:
    """The plan that :func:`train` would follow, without training.

    Args:
        data: and what follows: as for :func:`train`.
        system: likewise.
        group_pattern: likewise.
        layout: likewise.
        split: likewise.
        allow_leak: likewise.
        settings: likewise.
        device: likewise.
        quiet: likewise.

    Raises:
        MedsegError: anything with which no training would begin.
    """
    given = {
        "system": system,
        "data.group_pattern": group_pattern,
        "data.layout": layout,
        "data.allow_leak": allow_leak,
    }
    values = {key: value for key, value in given.items() if value is not None}
    console = Console(stderr=True, quiet=quiet)
    recipe = make_recipe(values, settings)
    where = choose_device(device)
    material = prepare(
        Path(data),
        recipe,
        console,
        split=Path(split) if split is not None else None,
        stored=None,
    )
    precision = choose_precision(recipe.train.precision, where)
    plan = _plan(_as_found(recipe, material), material, where, precision, 1, console)
    _check_batch(plan.recipe, material, 1)
    return plan


def _plan(
    recipe: Recipe,
    material: Material,
    device: torch.device,
    precision: str,
    processes: int,
    console: Console,
) -> Plan:
    training = material.parts["train"]
    if material.dims == 3:
        return make_volume_plan(
            recipe,
            measure_volumes(material, recipe, console),
            layout=material.survey.dataset.layout,
            device=device,
            precision=precision,
            processes=processes,
            build=lambda recipe: _method(recipe, material),
        )
    with counting_bar(console) as bar:
        task = bar.add_task("measuring")
        fingerprint = take_fingerprint(
            material.survey,
            training,
            channels=material.channels,
            snap=recipe.data.snap_masks,
            max_pixels=recipe.data.max_pixels,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    return make_plan(
        recipe,
        fingerprint,
        layout=material.survey.dataset.layout,
        device=device,
        precision=precision,
        processes=processes,
        build=lambda recipe: _method(recipe, material),
    )


def _shared_plan(
    recipe: Recipe,
    material: Material,
    device: torch.device,
    precision: str,
    processes: int,
    console: Console,
) -> Plan:
    """The leader's plan: processes on machines that differ must agree on the batch."""
    if processes == 1:
        return _plan(recipe, material, device, precision, processes, console)
    shared: list[Plan | MedsegError | None] = [None]
    if is_leader():
        try:
            shared = [_plan(recipe, material, device, precision, processes, console)]
        except MedsegError as error:
            shared = [error]
    broadcast_object_list(shared)
    (found,) = shared
    if isinstance(found, MedsegError):
        raise found
    assert found is not None
    return found


def _check_batch(recipe: Recipe, material: Material, processes: int) -> None:
    batch = recipe.train.batch_size
    assert isinstance(batch, int)
    if batch % processes:
        raise RecipeError(
            f"--batch-size {batch}", f"it is not a multiple of the {processes} processes",
            f"Use {max(1, batch // processes) * processes}",
        )  # fmt: skip
    unit = processes * batch_unit(method_class(recipe.method))
    if batch % unit:
        raise RecipeError(
            f"--batch-size {batch}",
            f"{recipe.method} needs a multiple of {unit}",
            f"Use {max(1, batch // unit) * unit}",
        )
    halves = 2 if material.unlabelled else 1
    cases, labelled = len(material.parts["train"]), "labelled " if material.unlabelled else ""
    there_are = plural(cases, f"{labelled}training image")
    if material.dims == 3:
        assert isinstance(recipe.data.patches_per_volume, int)
        volumes = len(material.volumes["train"])
        cases = volumes * recipe.data.patches_per_volume
        there_are = f"{cases} of {plural(volumes, f'{labelled}training volume')} an epoch"
    if batch > cases * halves:
        raise RecipeError(
            f"--batch-size {batch}", f"only {there_are} to take them from",
            f"Use at most {cases * halves}",
        )  # fmt: skip


def make_accelerator(
    device: torch.device, precision: str, *, unused_parameters: bool
) -> Accelerator:
    """Device, precision and processes of a training, with deterministic algorithms.

    Args:
        device: where to compute.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        unused_parameters: whether a step may leave weights without a gradient.
    """
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
        kwargs_handlers=[
            DistributedDataParallelKwargs(
                broadcast_buffers=False, find_unused_parameters=unused_parameters
            )
        ],
    )


def _method(
    recipe: Recipe,
    material: Material,
    origin: Origin | None = None,
    console: Console | None = None,
) -> Method:
    """The method with its network, which has the weights of ``origin`` where they fit."""
    torch.manual_seed(recipe.seed)
    # What is pointed at is one structure, whatever class it has.
    pointed = bool(getattr(network_class(recipe.system), "prompts", ()))
    classes = 1 if pointed else material.labels.num_classes
    network = create_model(
        recipe.system, in_channels=material.channels, num_classes=classes, **recipe.network
    )
    if origin is not None:
        carried = carry_over(
            network,
            origin,
            system=recipe.system,
            options=recipe.network,
            in_channels=material.channels,
            num_classes=classes,
            classes=material.labels.names,
        )
        if console is not None:
            text = escape(f"{origin.name}: {carried}")
            console.print(f"[bold]{'init':9}[/]{text}", highlight=False)
    if recipe.adapt.enabled:
        settings = recipe.adapt
        if origin is not None:
            settings = settings.model_copy(update={"new": carried.fresh})
            recipe = recipe.model_copy(update={"adapt": settings})
        adapt(network, settings)
    known = {"channels": material.channels}
    return create_method(
        network, recipe.model_copy(update={"data": recipe.data.model_copy(update=known)})
    )


def _feed(
    recipe: Recipe,
    plan: Plan,
    method: Method,
    cache: CaseCache | VolumeCache,
    rows: Rows,
    accelerator: Accelerator,
    sentences: Sentences | None,
) -> Feed:
    if isinstance(cache, VolumeCache):
        return VolumeFeed(
            recipe,
            cache,
            train=rows.train,
            val=rows.val,
            unlabelled=rows.unlabelled,
            spacing=plan.choices["data.spacing"].value,
            device=accelerator.device,
            rank=accelerator.process_index,
            processes=accelerator.num_processes,
        )
    feed_of: Callable[..., ImageFeed] = ImageFeed
    if isinstance(method, Interactive):
        feed_of = partial(PromptFeed, rounds=method.rounds)
    if isinstance(method, TextDriven):
        assert sentences is not None
        feed_of = partial(TextFeed, sentences=sentences, absent=method.absent)
    return feed_of(
        recipe,
        cache,
        train=rows.train,
        val=rows.val,
        unlabelled=rows.unlabelled,
        normalisation=(rows.mean, rows.std),
        device=accelerator.device,
        rank=accelerator.process_index,
        processes=accelerator.num_processes,
    )


def _shown_size(feed: Feed) -> str:
    if len(feed.size) == 2:
        return f"{feed.size[0]} px"
    return f"{' x '.join(map(str, feed.size))} voxels"


def _group_sizes(material: Material) -> str:
    """``"sex: 40 f, 4 m of the training cases"``."""
    grouping = material.grouping
    assert grouping is not None
    if material.dims == 2:
        training = [case.id for case in material.parts["train"]]
    else:
        training = [whole.id for whole in material.volumes["train"]]
    counts = Counter(grouping.numbers.get(case) for case in training)
    said = [f"{counts[number]} {name}" for number, name in enumerate(grouping.names)]
    if counts[None]:
        said.append(f"{counts[None]} unknown")
    return f"{grouping.attribute}: {', '.join(said)} of the training cases"


def _golden_cases(count: int, material: Material) -> str:
    if material.dims == 2:
        return plural(count, "validation image")
    return f"{plural(count, 'piece')} of validation volumes"


def _announce(
    console: Console,
    folder: Path,
    plan: Plan,
    material: Material,
    cache: CaseCache | VolumeCache,
    loop: TrainingLoop,
) -> None:
    recipe = plan.recipe
    if material.leak_note:
        console.print(f"[bold red]{escape(material.leak_note)}[/]", highlight=False)
    opened = len(read_openings(folder))
    if opened:
        console.print(
            f"[yellow]warning[/] the test part of this run has been opened {plural(opened, 'time')}"
            "; choices made since are not blind to it",
            highlight=False,
        )
    counts = ", ".join(f"{count} {part}" for part, count in material.counts.items())
    method = "" if recipe.method == "supervised" else f"{recipe.method}, "
    unit = "images" if material.dims == 2 else "patches"
    adaptation = adaptation_of(loop.method.network)
    some = adaptation.trained < adaptation.total and not recipe.adapt.enabled
    still = f", {adaptation.trained:,} of them trained" if some else ""
    lines = {
        "data": f"{material.survey.dataset.root} ({counts}; {', '.join(material.labels.names)})",
        "system": f"{recipe.system}, {adaptation.total:,} parameters{still}",
        "training": (
            f"{method}{plural(loop.epochs, 'epoch')} of {plural(loop.steps_per_epoch, 'step')}, "
            f"{loop.batch_size} {unit} a step at {_shown_size(loop.feed)}, "
            f"{recipe.train.precision} on {loop.device.type}, patience {loop.patience}"
        ),
        "memory": plan.memory,
        "cache": (
            f"{cache.bytes / 1e6:.0f} MB in {cache.folder}{' (reused)' if cache.reused else ''}"
        ),
        "run": str(folder),
    }
    golden = min(recipe.predict.golden, material.counts["val"])
    if golden and not isinstance(loop.feed, PromptFeed):
        lines["golden"] = (
            f"{_golden_cases(golden, material)} will be part of the model file; "
            "--set predict.golden=0 leaves them out"
        )
    if isinstance(loop.feed, TextFeed):
        lines["text"] = str(loop.feed.sentences)
    if recipe.adapt.enabled:
        lines["adapt"] = str(adaptation)
    if material.grouping is not None:
        lines["groups"] = _group_sizes(material)
    size = plan.choices["data.image_size" if material.dims == 2 else "data.patch"]
    if size.auto:
        lines["plan"] = f"{_shown_size(loop.feed)}: {size.reason}"
    for name, text in lines.items():
        console.print(f"[bold]{name:9}[/]{escape(text)}", highlight=False)
    if loop.steps_done:
        console.print(
            f"[bold]{'resumed':9}[/]at epoch {loop.state.epoch + 1}, step {loop.state.step}",
            highlight=False,
        )
