"""From folders of images to weights to start from: what `medseg pretrain` does."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from medseg.data.augment import Augment
from medseg.data.cache import CaseCache
from medseg.data.loader import epoch_order
from medseg.data.splitfile import write_split
from medseg.engine.device import choose_device, choose_precision, return_freed_memory
from medseg.engine.feed import Autocast, Feed
from medseg.engine.loop import Interrupted, TrainingLoop
from medseg.engine.plan import patience_choice, plan_batch_size, plan_epochs
from medseg.engine.prepare import Material, prepare, rows_of
from medseg.engine.progress import TrainingProgress
from medseg.engine.run import Run, free_folder, recipe_of_run
from medseg.engine.train import DEFAULT_CACHE_LIMIT, is_leader, make_accelerator
from medseg.errors import RecipeError, plural
from medseg.files import write_text
from medseg.inference.bundle import Manifest, Preprocessing, StoredLabel, write_bundle
from medseg.methods.method import Batch
from medseg.methods.reconstruction import Reconstruction
from medseg.methods.registry import create_method
from medseg.models import create_model
from medseg.nn.blocks import count_parameters
from medseg.recipe import Recipe

METHOD = "reconstruction"
IMAGE_SIZE = 256
"""Pixels a side where the recipe leaves it to us."""

# Validation images lose the same patches in every epoch.
_VALIDATION = 2**31


@dataclass(frozen=True)
class Pool:
    """Images of several datasets, cached at one size.

    Attributes:
        names: of the datasets.
        caches: of each.
        train: ``(N, 2)``: dataset and place in its cache.
        val: likewise.
        mean: of each channel over all training images, on the scale 0..1.
        std: likewise.
    """

    names: tuple[str, ...]
    caches: tuple[CaseCache, ...]
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def key(self) -> str:
        """Of all cached data together."""
        joined = " ".join(cache.folder.name for cache in self.caches)
        return hashlib.sha256(joined.encode()).hexdigest()[:24]

    def images(self, rows: NDArray[np.int64]) -> Tensor:
        """``(B, C, S, S)`` uint8 of the images at ``rows`` (B, 2), in their order."""
        found = [self.caches[dataset].images[row] for dataset, row in rows]
        stacked = torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)
        for cache in self.caches:
            cache.release()
        return stacked


class PooledImages(Feed):
    """Batches of images alone.

    Args:
        recipe: fully resolved.
        pool: the images.
        method: scores what it restores.
        device: where batches lie.
        rank: of this process.
        processes: that share each step.
    """

    memory_format = torch.channels_last
    score: ClassVar[str] = "val_restored"

    def __init__(
        self,
        recipe: Recipe,
        pool: Pool,
        method: Reconstruction,
        *,
        device: torch.device,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        assert isinstance(recipe.train.batch_size, int)
        self.recipe = recipe
        self.pool = pool
        self.method = method
        self.device = device
        self.rank = rank
        self.processes = processes
        self.key = pool.key
        self.batch_size = recipe.train.batch_size
        self.steps_per_epoch = len(pool.train) // self.batch_size
        self.size = (recipe.data.pixels, recipe.data.pixels)
        self.augment = Augment(recipe.augment)
        self.mean, self.std = (
            torch.tensor(values, device=device).view(1, -1, 1, 1)
            for values in (pool.mean, pool.std)
        )

    def training(self, epoch: int, first_step: int) -> Iterator[Batch]:
        order = epoch_order(self.recipe.seed, epoch, len(self.pool.train))
        share = self.batch_size // self.processes
        for step in range(first_step, self.steps_per_epoch):
            start = step * self.batch_size + self.rank * share
            rows = self.pool.train[order[start : start + share]]
            keys = [(self.recipe.seed, epoch, start + place) for place in range(share)]
            yield self._batch(rows, keys, augment=True)

    def validate(self, network: nn.Module, autocast: Autocast) -> tuple[float, int]:
        """The sum over images of ``1 / (1 + error)``: 1 for an image that is restored, 1/2 for one
        that is filled with the mean colour of all."""
        rows = self.pool.val[self.rank :: self.processes]
        total = 0.0
        for start in range(0, len(rows), self.batch_size):
            part = rows[start : start + self.batch_size]
            keys = [(_VALIDATION, int(dataset), int(row)) for dataset, row in part]
            with autocast():
                errors = self.method.errors(
                    self._batch(part, keys, augment=False)["image"], keys, network
                )
            total += float((1 / (1 + errors.double())).sum())
        return total, len(rows)

    def _batch(
        self, rows: NDArray[np.int64], keys: Sequence[Sequence[int]], *, augment: bool
    ) -> Batch:
        image = self.pool.images(rows).to(self.device).float().div_(255)
        nothing = torch.zeros(image[:, 0].shape, dtype=torch.uint8, device=self.device)
        if augment:
            image, _ = self.augment(image, nothing, keys)
        image = image.sub(self.mean).div_(self.std).contiguous(memory_format=self.memory_format)
        names = [f"{self.pool.names[d]}/{self.pool.caches[d].ids[row]}" for d, row in rows]
        return {"image": image, "mask": nothing, "case_id": names, "key": keys}


def pretrain(
    data: Sequence[str | Path],
    *,
    system: str | None = None,
    output: str | Path | None = None,
    epochs: int | None = None,
    image_size: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    splits: Sequence[str | Path] = (),
    settings: Sequence[str] = (),
    device: str = "auto",
    resume: bool = False,
    cache_dir: str | Path | None = None,
    cache_limit: int = DEFAULT_CACHE_LIMIT,
    quiet: bool = False,
) -> Run:
    """Train a system on the images of the datasets' training parts, without their masks.

    Validation parts choose the epoch; test parts are neither cached nor looked at. The run's model
    is for ``init`` of a training, and remembers which images it has seen.

    Args:
        data: folders or manifests.
        system: a name or a Python file with one network; default ``med2d-segnet``.
        output: the run's folder; default ``runs/pretrained-SYSTEM``, numbered when taken.
        epochs: passes over all images; this and what follows override the recipe.
        image_size: pixels a side; default 256.
        batch_size: images per step over all processes.
        seed: of splits that are drawn, weights, order, augmentation and what is hidden.
        splits: a CSV of `medseg data split` for each of ``data``; none draws them, or takes the
            published ones, as `medseg train` with the same seed does.
        settings: any recipe values as ``"a.b=c"`` text, applied last.
        device: ``auto``, ``cpu``, ``cuda:0`` or ``mps``.
        resume: continue the run in ``output``.
        cache_dir: where decoded images are kept; default ``RUN/cache``.
        cache_limit: bytes the cache folder may take.
        quiet: print nothing.

    Raises:
        MedsegError: anything the user can mend.
        Interrupted: on SIGINT, after saving.
    """
    given = {
        "system": system,
        "train.epochs": epochs,
        "data.image_size": image_size,
        "train.batch_size": batch_size,
        "seed": seed,
        "method": METHOD,
    }
    values = {key: value for key, value in given.items() if value is not None}
    console = Console(stderr=True, quiet=quiet or not is_leader())
    roots = [Path(each) for each in data]
    folder = Path(output) if output is not None else free_folder(Path("pretrained"), system)
    _check(roots, splits, output, resume=resume)
    recipe = recipe_of_run(folder, values, settings, resume=resume)
    if recipe.method != METHOD:
        raise RecipeError(
            f"method {recipe.method}", "it is no pre-training", "Leave it out, or use medseg train"
        )
    if recipe.init:
        raise RecipeError(
            f"init {recipe.init}",
            "pre-training starts from random weights",
            "Leave it out, or give it to medseg train",
        )
    where = choose_device(device)
    names = _names(roots)
    chosen = {name: Path(split) for name, split in zip(names, splits, strict=bool(splits))}
    materials: list[Material] = []
    for name, root in zip(names, roots, strict=True):
        stored = folder / "splits" / f"{name}.csv" if resume else None
        materials.append(prepare(root, recipe, console, split=chosen.get(name), stored=stored))
    asked = recipe.data.channels
    channels = max(each.channels for each in materials) if asked == "auto" else asked
    precision = choose_precision(recipe.train.precision, where)
    count = sum(len(material.parts["train"]) for material in materials)
    recipe = _resolved(recipe, count, channels=channels, device=where.type, precision=precision)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    _check_batch(recipe, count, processes)
    accelerator = make_accelerator(where, precision, unused_parameters=True)
    place = Path(cache_dir) if cache_dir is not None else folder / "cache"
    with accelerator.main_process_first():
        pool = make_pool(
            names, materials, recipe, place, channels=channels, limit=cache_limit, console=console
        )
    return_freed_memory()

    torch.manual_seed(recipe.seed)
    network = create_model(
        recipe.system, in_channels=channels, num_classes=channels, **recipe.network
    )
    method = create_method(network, recipe)
    assert isinstance(method, Reconstruction)
    feed = PooledImages(
        recipe, pool, method, device=accelerator.device, rank=accelerator.process_index,
        processes=accelerator.num_processes,
    )  # fmt: skip
    loop = TrainingLoop(method, recipe, feed, folder=folder, accelerator=accelerator)
    if resume and loop.last.is_file():
        loop.resume()
    facts = {name: material.facts(pool.caches[place]) for place, (name, material) in enumerate(
        zip(names, materials, strict=True))}  # fmt: skip
    if accelerator.is_main_process:
        for name, material in zip(names, materials, strict=True):
            write_split(
                folder / "splits" / f"{name}.csv",
                material.split,
                material.survey.dataset.cases,
                clusters=material.survey.clusters,
                hashes=material.hashes,
            )
        write_text(folder / "data.json", json.dumps(facts, indent=1))
        recipe.save(folder / "recipe.yaml")
    _announce(console, folder, recipe, pool, network)
    with TrainingProgress(
        console, steps=loop.steps, done=loop.steps_done, epochs=loop.epochs, quiet=console.quiet
    ) as progress:
        try:
            state = loop.run(progress)
        except Interrupted:
            again = " ".join(quote(str(root)) for root in roots)
            raise Interrupted(
                "Stopped and saved. Continue with: "
                f"medseg pretrain {again} -o {quote(str(folder))} --resume"
            ) from None
    run = Run(folder, recipe, state.best_dice, state.epoch)
    if accelerator.is_main_process:
        _write_model(run, pool, materials, facts, loop.best_network())
    accelerator.wait_for_everyone()
    return run


def _check(
    roots: Sequence[Path], splits: Sequence[str | Path], output: str | Path | None, *, resume: bool
) -> None:
    if not roots:
        raise RecipeError("medseg pretrain", "no data are named", "Name one folder or more")
    if resume and output is None:
        raise RecipeError(
            "--resume", "it does not say which run to continue", "Name the run's folder with -o"
        )
    if resume and splits:
        raise RecipeError("--split", "a resumed run keeps its own splits", "Leave --split out")
    if splits and len(splits) != len(roots):
        raise RecipeError(
            "--split",
            f"{plural(len(splits), 'split')} for {plural(len(roots), 'dataset')}",
            "Give one for each, in their order, or none",
        )


def _names(roots: Sequence[Path]) -> tuple[str, ...]:
    """A name for each dataset, numbered where several are called alike."""
    names: list[str] = []
    for root in roots:
        stem = root.resolve().stem
        number, name = 2, stem
        while name in names:
            name, number = f"{stem}-{number}", number + 1
        names.append(name)
    return tuple(names)


def _resolved(recipe: Recipe, count: int, *, channels: int, device: str, precision: str) -> Recipe:
    """The recipe without anything ``auto``."""
    data, train = recipe.data, recipe.train
    size = IMAGE_SIZE if data.image_size == "auto" else data.image_size
    epochs = plan_epochs(count) if train.epochs == "auto" else train.epochs
    batch = train.batch_size
    if batch == "auto":
        batch = plan_batch_size(count, size, device)
    patience = patience_choice(recipe, epochs).value
    return recipe.model_copy(
        update={
            "data": data.model_copy(update={"image_size": size, "channels": channels}),
            "train": train.model_copy(
                update={
                    "epochs": epochs,
                    "batch_size": batch,
                    "patience": patience,
                    "precision": precision,
                }
            ),
        }
    )


def _check_batch(recipe: Recipe, count: int, processes: int) -> None:
    batch = recipe.train.batch_size
    assert isinstance(batch, int)
    if batch % processes or batch > count:
        raise RecipeError(
            f"--batch-size {batch}",
            f"there are {plural(count, 'training image')}, and the processes are {processes}",
            f"Use a multiple of {processes}, at most {count}",
        )


def make_pool(
    names: Sequence[str],
    materials: Sequence[Material],
    recipe: Recipe,
    folder: Path,
    *,
    channels: int,
    limit: int,
    console: Console,
) -> Pool:
    """Cache the training and validation images of all datasets at one size.

    Args:
        names: of the datasets.
        materials: likewise.
        recipe: fully resolved.
        folder: of the caches.
        channels: of the images as the network sees them.
        limit: bytes that all caches may take.
        console: for progress.
    """
    caches: list[CaseCache] = []
    train: list[NDArray[np.int64]] = []
    val: list[NDArray[np.int64]] = []
    moments = np.zeros((3, channels))
    for place, material in enumerate(materials):
        same = replace(material, channels=channels)
        cache = same.cache(recipe, folder, limit=limit, console=console)
        rows = rows_of(same, cache)
        caches.append(cache)
        for found, part in ((train, rows.train), (val, rows.val)):
            found.append(np.stack([np.full_like(part, place), part], axis=1))
        mean, std = np.array(rows.mean), np.array(rows.std)
        moments += len(rows.train) * np.stack([np.ones(channels), mean, std**2 + mean**2])
    weight, first, second = moments
    mean = first / weight
    std = np.sqrt(second / weight - mean**2)
    return Pool(
        tuple(names),
        tuple(caches),
        np.concatenate(train),
        np.concatenate(val),
        tuple(mean.tolist()),
        tuple(std.tolist()),
    )


def _announce(
    console: Console, folder: Path, recipe: Recipe, pool: Pool, network: nn.Module
) -> None:
    lines = {
        "data": f"{', '.join(pool.names)} ({len(pool.train)} train, {len(pool.val)} val; "
        "masks are not used)",
        "system": f"{recipe.system}, {count_parameters(network):,} parameters",
        "training": f"{recipe.train.epochs} epochs, {recipe.train.batch_size} images a step at "
        f"{recipe.data.image_size} px",
        "run": str(folder),
    }
    for name, text in lines.items():
        console.print(f"[bold]{name:9}[/]{escape(text)}", highlight=False)


def _write_model(
    run: Run,
    pool: Pool,
    materials: Sequence[Material],
    facts: Mapping[str, Any],
    network: nn.Module,
) -> None:
    """Write the bundle: weights to start from, and which images they know."""
    weights = to_safetensors(
        {k: v.clone(memory_format=torch.contiguous_format) for k, v in network.state_dict().items()}
    )
    seen: set[str] = set()
    for material, cache in zip(materials, pool.caches, strict=True):
        images = material.image_hashes()
        seen |= {images[case] for case in cache.ids}
    channels = len(pool.mean)
    labels = [StoredLabel(name=f"channel {i}", value=i) for i in range(max(2, channels))]
    recipe = run.recipe
    manifest = Manifest(
        title=f"{recipe.system} pre-trained on images",
        system=recipe.system,
        network=json.loads(json.dumps(recipe.network)),
        num_classes=channels,
        labels=tuple(labels),
        preprocessing=Preprocessing(
            image_size=recipe.data.pixels, channels=channels, mean=pool.mean, std=pool.std
        ),
        licence=recipe.predict.licence,
        recipe=recipe.model_dump(mode="json"),
        data={
            "name": " + ".join(pool.names),
            "hash": pool.key,
            "cases": {"train": len(pool.train), "val": len(pool.val)},
            "warnings": [line for each in facts.values() for line in each["warnings"]],
            "seen": sorted(seen),
        },
        scores={PooledImages.score: run.val_dice},
        parameters=count_parameters(network),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
    )
    card = (
        f"# {manifest.title}\n\n"
        f"Weights to start a training from (`medseg train DATA --init {run.bundle.name}`). They "
        "predict no masks: the network has learnt to fill in hidden patches of "
        f"{len(pool.train)} images ({', '.join(pool.names)}), without any mask.\n"
    )
    write_bundle(run.bundle, manifest, weights, card=card)
