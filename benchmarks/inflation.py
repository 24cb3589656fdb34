"""How much habits of evaluation add to a Dice, measured on our own predictions.

    python benchmarks/inflation.py KVASIR CVC RUNS results/inflation.json --seeds 2 \
        --epochs 12 --image-size 64 [--system NAME] [--set a.b=c] [--run RUN]

The protocol: the epoch is chosen on the validation part; the Dice of each test image is taken at
its own size; the mean is over images. Then one habit at a time, with nothing else changed:

- ``best_epoch``: the epoch is the one that does best on the test part;
- ``pooled``: one Dice over the pixels of all test images;
- ``soft``: the probabilities are scored, not the mask;
- ``soft_batch``: likewise, over batches of 8 at the network's size, smoothed by 1;
- ``network_size``: masks are compared at the size the network sees;
- ``together``: the epoch with the best pooled Dice at the network's size.

Frames of a video on both sides of the split (CVC-ClinicDB) are measured by two trainings of equal
size that are scored on the same frames: every second frame of held-out videos. The second training
has the frames between them in place of as many of its own. Near-identical pairs (Kvasir-SEG) are
bounded. Trainings are kept in RUNS, so that a run that was stopped goes on; every ``--run`` is
measured as well, as it is (without its epochs, which it has not kept).
"""

from __future__ import annotations

import argparse
import csv
import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common import save
from medseg.data.case import Case, Split
from medseg.data.labels import read_classes
from medseg.data.layouts import open_dataset
from medseg.data.preprocess import resize_mask
from medseg.data.splitfile import read_split, write_split
from medseg.engine.checkpoint import load_checkpoint, save_checkpoint
from medseg.engine.loop import TrainingLoop
from medseg.engine.openings import Opening, log_opening
from medseg.engine.train import train
from medseg.files import write_text
from medseg.inference.network import Model, load_network
from medseg.metrics.statistics import bootstrap_mean

CLAIM = 0.9578
"""Dice on Kvasir-SEG in arXiv 2504.14715."""

# The last frame of each of the 29 videos of CVC-ClinicDB, as published with it
# (https://polyp.grand-challenge.org/CVCClinicDB/).
LAST_FRAMES = (
    25, 50, 67, 78, 103, 126, 151, 177, 199, 205, 227, 252, 277, 297, 317, 342, 363, 383, 408, 428,
    447, 466, 478, 503, 528, 546, 571, 591, 612,
)  # fmt: skip

BATCH = 8
RESAMPLES = 2000

Values = NDArray[np.float64]
# The network's input, (1, C, S, S), and the true classes, (H, W).
Loaded = tuple[Tensor, NDArray[np.uint8]]
# An epoch's counts, (N, 3) each: overlap, predicted, true.
Counts = dict[str, Values]
Habit = Callable[[Counts, NDArray[np.intp]], float]


def dice(counts: Values) -> Values:
    """(..., 3) counts to the Dice of each; 1 where nothing is there and nothing is found."""
    total = counts[..., 1] + counts[..., 2]
    return np.where(total > 0, 2 * counts[..., 0] / np.where(total > 0, total, 1), 1.0)


def per_image(kind: str) -> Habit:
    return lambda counts, chosen: float(dice(counts[kind][chosen]).mean())


def pooled(kind: str) -> Habit:
    return lambda counts, chosen: float(dice(counts[kind][chosen].sum(axis=0)))


def soft_batch(counts: Counts, chosen: NDArray[np.intp]) -> float:
    starts = range(0, len(chosen), BATCH)
    sums = [counts["soft_small"][chosen[i : i + BATCH]].sum(axis=0) for i in starts]
    return float(np.mean([(2 * s[0] + 1) / (s[1] + s[2] + 1) for s in sums]))


PROTOCOL = per_image("full")
HABITS: dict[str, Habit] = {
    "pooled": pooled("full"),
    "soft": per_image("soft"),
    "soft_batch": soft_batch,
    "network_size": per_image("small"),
}
TOGETHER = pooled("small")


class KeepingLoop(TrainingLoop):
    """A training that keeps the averaged weights of every epoch."""

    def save(self) -> None:
        super().save()
        if self.state.step == 0 and self.state.epoch > 0:
            save_checkpoint(
                self.folder / "epochs" / f"{self.state.epoch:03}.safetensors",
                {"network": self.average.network.state_dict()},
                {},
            )


def train_once(data: Path, folder: Path, arguments: argparse.Namespace, **options: Any) -> Path:
    """Train unless it has been done; a stopped training goes on."""
    if not (folder / "model.medseg").is_file():
        resume = (folder / "recipe.yaml").is_file()
        if not resume:
            options |= {
                "system": arguments.system,
                "epochs": arguments.epochs,
                "patience": arguments.epochs,
                "image_size": arguments.image_size,
                "settings": arguments.settings,
            }
        else:
            options = {}
        with mock.patch("medseg.engine.train.TrainingLoop", KeepingLoop):
            train(
                data, output=folder, device="cpu", resume=resume,
                cache_dir=arguments.runs / "cache", **options,
            )  # fmt: skip
    return folder


def count(a: Values, b: Values) -> tuple[float, float, float]:
    return float((a * b).sum()), float(a.sum()), float(b.sum())


def load_cases(model: Model, cases: Sequence[Case]) -> list[Loaded]:
    """Inputs of the network and true masks."""
    loaded: list[Loaded] = []
    for case in cases:
        assert case.mask is not None
        image = case.image.read_image(max_pixels=model.max_pixels)
        truth = read_classes(case.mask, model.labels, snap="auto", max_pixels=model.max_pixels)
        loaded.append((torch.from_numpy(model.prepare(image))[None], truth))
    return loaded


def measure(model: Model, cases: Sequence[Loaded]) -> Counts:
    """Counts of every case: of masks at full and network size, and of probabilities."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    size, threshold = model.manifest.preprocessing.image_size, model.manifest.threshold
    for inputs, truth in cases:
        small_truth = (resize_mask(truth, size) == 1).astype(np.float64)
        full_truth = (truth == 1).astype(np.float64)
        logits = model.logits(inputs)[0]
        height, width = truth.shape
        full = model.resize_logits(logits, (height, width)).sigmoid()[0].double().numpy()
        small = logits.sigmoid()[0].double().numpy()
        for kind, counts in {
            "full": count((full >= threshold).astype(np.float64), full_truth),
            "soft": count(full, full_truth),
            "small": count((small >= threshold).astype(np.float64), small_truth),
            "soft_small": count(small, small_truth),
        }.items():
            found.setdefault(kind, []).append(counts)
    return {kind: np.array(rows) for kind, rows in found.items()}


def open_model(run: Path) -> Model:
    """The run's model with its probabilities as trained, without temperature."""
    model = load_network(run, device="cpu")
    assert model.manifest.num_classes == 1, "two classes only"
    model.manifest = model.manifest.model_copy(update={"temperature": 1.0})
    return model


def test_cases(run: Path, data: Path, model: Model) -> list[Case]:
    """The run's test part; the run remembers that it was opened."""
    split = read_split(run / "split.csv").parts
    cases = [case for case in open_dataset(data).cases if split.get(case.id) == "test"]
    log_opening(
        run,
        Opening(
            scored=f"{data.name} (test part) by benchmarks/inflation.py",
            cases=len(cases),
            weights_sha256=model.manifest.weights_sha256,
            data_hash=model.manifest.data.get("content", ""),
        ),
    )
    return cases


def counts_of_epochs(run: Path, model: Model, cases: Sequence[Loaded]) -> Iterator[Counts]:
    for path in sorted((run / "epochs").glob("*.safetensors")):
        tensors, _ = load_checkpoint(path)
        model.network.load_state_dict(tensors["network"])
        yield measure(model, cases)


def interval(statistic: Callable[[NDArray[np.intp]], float], cases: int) -> list[float]:
    """95 % percentile bootstrap interval over cases."""
    rng = np.random.default_rng(0)
    values = [statistic(rng.integers(0, cases, cases)) for _ in range(RESAMPLES)]
    return [round(float(bound), 5) for bound in np.quantile(values, [0.025, 0.975])]


def added(statistic: Callable[[NDArray[np.intp]], float], cases: int) -> dict[str, Any]:
    return {
        "points": round(statistic(np.arange(cases)), 5),
        "interval": interval(statistic, cases),
    }


def analyse(run: Path, data: Path, notes: Path) -> dict[str, Any]:
    """What each habit adds to the protocol's Dice on the test part of a run; kept in ``notes``."""
    noted = notes / f"{run.name}.json"
    if noted.is_file():
        known: dict[str, Any] = json.loads(noted.read_text(encoding="utf-8"))
        return known
    model = open_model(run)
    cases = load_cases(model, test_cases(run, data, model))
    chosen = measure(model, cases)
    everything = np.arange(len(cases))

    def over_protocol(habit: Habit) -> Callable[[NDArray[np.intp]], float]:
        return lambda index: habit(chosen, index) - PROTOCOL(chosen, index)

    found: dict[str, Any] = {
        "system": model.manifest.system,
        "parameters": model.manifest.parameters,
        "image_size": model.manifest.preprocessing.image_size,
        "seed": model.manifest.recipe["seed"],
        "epochs": model.manifest.recipe["train"]["epochs"],
        "test_cases": len(cases),
        "dice": round(PROTOCOL(chosen, everything), 5),
        "dice_interval": interval(lambda index: PROTOCOL(chosen, index), len(cases)),
        "added": {name: added(over_protocol(habit), len(cases)) for name, habit in HABITS.items()},
        "near_identical": twins(run, float(PROTOCOL(chosen, everything))),
    }
    epochs = list(counts_of_epochs(run, model, cases))

    def over_best_epoch(habit: Habit) -> Callable[[NDArray[np.intp]], float]:
        return lambda index: max(habit(each, index) for each in epochs) - PROTOCOL(chosen, index)

    if epochs:
        for name, habit in (("best_epoch", PROTOCOL), ("together", TOGETHER)):
            found["added"][name] = added(over_best_epoch(habit), len(cases))
        found["dice_by_epoch"] = [round(PROTOCOL(each, everything), 5) for each in epochs]
    write_text(noted, json.dumps(found, indent=1))
    return found


def twins(run: Path, mean_dice: float) -> dict[str, Any] | None:
    """The most that near-identical pairs could add to a split that does not know of them.

    A random split of 80/10/10 puts one of a pair into the test part and the other one into the
    training part with a probability of 0.16. At most such an image gains what is missing to 1.
    None for a run that has not looked for such pairs.
    """
    with (run / "split.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if "cluster" not in rows[0]:
        return None
    clusters = Counter(row["cluster"] for row in rows if row["cluster"])
    pairs = sum(size * (size - 1) // 2 for size in clusters.values())
    test = sum(row["split"] == "test" for row in rows)
    expected = 0.16 * pairs
    return {
        "pairs": pairs,
        "test_images_with_a_twin_in_training": round(expected, 3),
        "at_most": round(expected * (1 - mean_dice) / max(1, test), 5),
    }


def video_of(case_id: str) -> int:
    """The number of the video, 1 to 29, of a frame of CVC-ClinicDB."""
    return bisect_left(LAST_FRAMES, int(case_id)) + 1


def video_splits(case_ids: Sequence[str], seed: int) -> tuple[dict[str, Split], dict[str, Split]]:
    """Splits by video and by frame with the same validation and test part, and as many to train on.

    A fifth of the frames (whole videos) is held out; every second of them is for testing. In the
    split by frame those between them are for training, in place of as many others.
    """
    rng = np.random.default_rng([seed, 6])
    by_video: dict[int, list[str]] = {}
    for case in sorted(case_ids):
        by_video.setdefault(video_of(case), []).append(case)
    order = [int(video) for video in rng.permutation(sorted(by_video))]
    held: list[str] = []
    while len(held) < len(case_ids) / 5:
        held += by_video[order.pop()]
    val: list[str] = []
    while len(val) < len(case_ids) / 10:
        val += by_video[order.pop()]
    own = [case for video in sorted(order) for case in by_video[video]]
    test, between = held[::2], held[1::2]
    kept = rng.permutation(len(own))[len(between) :]
    common: dict[str, Split] = {**dict.fromkeys(val, "val"), **dict.fromkeys(test, "test")}
    by_frame = [own[index] for index in sorted(kept)] + between
    return (
        {**common, **dict.fromkeys(own, "train")},
        {**common, **dict.fromkeys(by_frame, "train")},
    )


def link_cases(cases: Sequence[Case], folder: Path) -> None:
    """A dataset of links to the files of these cases."""
    for case in cases:
        assert case.mask is not None
        for kind, source in (("images", case.image), ("masks", case.mask)):
            for file in source.files:
                link = folder / kind / file.name
                if not link.is_symlink():
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(file.absolute())


def videos(cvc: Path, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """What frames of the test frames' own videos add when they are in the training part."""
    cases = open_dataset(cvc).cases
    splits = dict(
        zip(("by_video", "by_frame"), video_splits([c.id for c in cases], seed), strict=True)
    )
    scores: dict[str, Values] = {}
    for name, split in splits.items():
        folder = arguments.runs / f"{cvc.name}-{name}-{seed}"
        # A split gives every case a part, so the data are what it lists and no more.
        data = arguments.runs / "data" / f"{cvc.name}-{name}-{seed}"
        listed = [case for case in cases if case.id in split]
        link_cases(listed, data)
        table = data.with_suffix(".csv")
        write_split(table, split, listed)
        train_once(data, folder, arguments, seed=seed, split=table, allow_leak=True)
        model = open_model(folder)
        tested = test_cases(folder, data, model)
        scores[name] = dice(measure(model, load_cases(model, tested))["full"])
    groups = [str(video_of(case.id)) for case in tested]
    gain = bootstrap_mean(scores["by_frame"] - scores["by_video"], groups=groups)
    return {
        "seed": seed,
        "training_images": Counter(splits["by_video"].values())["train"],
        "test_frames": len(tested),
        "test_videos": len(set(groups)),
        **{name: round(float(values.mean()), 5) for name, values in scores.items()},
        "added": {"points": gain.mean, "interval": [gain.low, gain.high]},
    }


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the runs, and how much of the distance to the claim each habit covers."""
    names = list(dict.fromkeys(name for run in runs for name in run["added"]))
    distance = CLAIM - float(np.mean([run["dice"] for run in runs]))
    points = {
        name: [run["added"][name]["points"] for run in runs if name in run["added"]]
        for name in names
    }
    return {
        "runs": len(runs),
        "dice": float(np.mean([run["dice"] for run in runs])),
        "distance_to_the_claim": distance,
        "added": {
            name: {
                "mean": float(np.mean(values)),
                "sd_over_runs": float(np.std(values, ddof=1)) if len(values) > 1 else None,
                "share_of_the_distance": float(np.mean(values)) / distance,
            }
            for name, values in points.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kvasir", type=Path)
    parser.add_argument("cvc", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--video-seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--system", default="med2d-segnet")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--run", action="append", default=[], type=Path, dest="finished")
    arguments = parser.parse_args()
    found: dict[str, Any] = {
        "claim": CLAIM,
        "settings": arguments.settings,
        "finished": [analyse(run, arguments.kvasir, arguments.runs) for run in arguments.finished],
        "kvasir": [],
        "cvc": [],
    }
    for seed in range(arguments.seeds):
        folder = arguments.runs / f"{arguments.kvasir.name}-{seed}"
        train_once(arguments.kvasir, folder, arguments, seed=seed)
        found["kvasir"].append(analyse(folder, arguments.kvasir, arguments.runs))
        found["summary"] = summary(found["kvasir"])
    # A long measurement that is cut short has said what it knows.
    save(arguments.output, found)
    for seed in range(arguments.video_seeds):
        found["cvc"].append(videos(arguments.cvc, seed, arguments))
        save(arguments.output, found)


if __name__ == "__main__":
    main()
