"""The model card: what a model is, how it was made, and what it must not be used for, as Markdown.

After M. Mitchell et al., Model Cards for Model Reporting, 2019, arXiv 1810.03993.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medseg.data.prompts import in_words
from medseg.engine.openings import read_openings
from medseg.errors import DataError, plural
from medseg.inference.bundle import (
    SUFFIX,
    Manifest,
    VolumeInput,
    find_bundle,
    read_card,
    read_manifest,
)

_UNSTATED = "not stated; ask whoever gave the images"
NOT_COUNTED = "Not scored on a test part here: `medseg evaluate DATA RUN --interactions 10`."
NOT_SCORED = (
    "Not scored on a test part yet: `medseg evaluate DATA RUN -o RUN/scores/test.json`, then "
    "`medseg info RUN --card`."
)
USE = """\
For research, teaching and engineering: outlining the classes above on images like those it was
trained on, where a person who knows such images looks at every mask, and after scoring it on
images of the place where it is to be used."""
MISUSE = """\
- It is not a medical device: no diagnosis, no treatment decision, no triage, no screening.
- Not without a person who checks the masks.
- Not on other kinds of images than those it was trained on: it gives a mask for any image, and does
  not notice that an image is of another kind."""


def model_card(
    manifest: Manifest, *, epochs: int | None = None, test: Mapping[str, Any] | None = None
) -> str:
    """The card of a model.

    Args:
        manifest: of its bundle.
        epochs: that it was trained for; None where that is not known.
        test: what ``scores/test.json`` of its run holds; None where it has not been scored.

    Returns:
        Markdown.
    """
    data = _word(manifest.data.get("name", "unnamed data"))
    title = _word(manifest.title) or f"{_word(manifest.system)} trained on {data}"
    sections = {
        "What it is": _bullets(_identity(manifest)),
        "Data": _bullets(_data(manifest)),
        "Protocol": _bullets(_protocol(manifest, epochs)),
        "Scores": _bullets(_scores(manifest, test)),
        "Calibration": _calibration(manifest),
        "Golden cases": _golden(manifest),
        "Intended use": USE,
        "Not to be used for": MISUSE,
        "Limits": _bullets(_limits(manifest)),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"# {title}\n\n{body}\n"


def card_of(model: Path) -> str:
    """The card of a run or a bundle.

    In a run whose test part has been scored into ``scores/test.json`` with these weights, it has
    those scores; otherwise it is the card that training wrote, or one made from what a bundle
    without a card says of itself.

    Raises:
        ModelError: neither a run nor a bundle, or damaged.
        DataError: the run's scores are damaged.
    """
    bundle = find_bundle(model)
    manifest = read_manifest(bundle)
    inside = bundle.name == f"model{SUFFIX}" and (bundle.parent / "recipe.yaml").is_file()
    test = read_test_scores(bundle.parent, manifest) if inside else None
    if test is None:
        return read_card(bundle) or model_card(manifest)
    return model_card(manifest, epochs=_epochs(bundle.parent), test=test)


def read_test_scores(run: Path, manifest: Manifest) -> dict[str, Any] | None:
    """What ``scores/test.json`` of a run holds, if it is of the run's test part and these weights.

    Raises:
        DataError: it is damaged.
    """
    path = run / "scores" / "test.json"
    opened = {opening.get("weights_sha256") for opening in read_openings(run)}
    if not path.is_file() or opened != {manifest.weights_sha256}:
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        scored = int(found["test_openings"]) > 0 and found["summary"]["mean"]["dice"] is not None
        # What cannot be put into the card is damaged.
        _bullets(_scores(manifest, found))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(
            path, f"it holds no scores ({error!r})", "Delete it, or score the run again"
        ) from error
    return found if scored else None


def _epochs(run: Path) -> int | None:
    try:
        return len((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError):
        return None


def _identity(manifest: Manifest) -> Iterable[str]:
    settings = manifest.preprocessing
    classes = ", ".join(f"{_word(each.name)} (value {each.value})" for each in manifest.labels)
    yield f"Network: {_word(manifest.system)}, {manifest.parameters:,} parameters"
    yield f"Classes: {classes}"
    if manifest.volume is None:
        yield (
            f"Input: {plural(settings.channels, 'channel')}, resized to {settings.image_size} x "
            f"{settings.image_size} pixels without keeping the aspect ratio"
        )
    else:
        yield f"Input: {plural(settings.channels, 'channel')}, {_of_volumes(manifest.volume)}"
    if manifest.sentences:
        said = "; ".join(f"“{_word(each)}”" for each in manifest.sentences)
        yield f"Segments what words say; where none are given it is asked for: {said}"
    elif manifest.prompts:
        yield f"Pointed at what it segments, one structure an answer: {in_words(manifest.prompts)}"
    yield f"After the network: {after_the_network(manifest)}"
    yield f"Licence of the model: {_word(manifest.licence) if manifest.licence else 'not stated'}"
    yield f"Made with medseg {_word(manifest.medseg)}; weights SHA-256 `{manifest.weights_sha256}`"


def _of_volumes(settings: VolumeInput) -> str:
    spacing, patch = settings.spacing_mm, " x ".join(map(str, settings.patch))
    grid = "not resampled" if spacing is None else f"resampled to {_times(spacing)} mm"
    return (
        f"volumes in {settings.plane or 'stored'} slices, {grid}, seen {patch} voxels at a time "
        f"that overlap by {100 * settings.overlap:.0f} %"
    )


def _times(lengths: Iterable[float]) -> str:
    return " x ".join(f"{length:g}" for length in lengths)


def after_the_network(manifest: Manifest) -> str:
    """How probabilities become a mask, in words."""
    rules = manifest.postprocessing
    steps = (
        f"foreground where its probability reaches {manifest.threshold:g}"
        if manifest.num_classes == 1
        else "the most probable class"
    )
    if rules.keep_largest:
        steps += ", only the largest component of each class"
    if rules.min_pixels > 1:
        steps += f", no component below {plural(rules.min_pixels, 'pixel')}"
    return steps


def _data(manifest: Manifest) -> Iterable[str]:
    data = manifest.data
    yield f"Name: {_word(data.get('name', 'not stated'))}"
    if isinstance(data.get("cases"), Mapping):
        counts = ", ".join(f"{count} {_word(part)}" for part, count in data["cases"].items())
        yield f"Cases: {counts}"
    for key, title in (
        ("content", "SHA-256 of all cases, its beginning"),
        ("hash", "Key of the cached data"),
    ):
        if data.get(key):
            yield f"{title}: {_word(data[key])}"
    yield f"Licence of the data: {_word(data.get('licence') or _UNSTATED)}"
    if data.get("attribution"):
        yield f"Attribution: {_word(data['attribution'])}"
    start = _section(data, "init")
    if start:
        licence = start.get("licence") or "no stated licence"
        yield f"Training started from {_word(start.get('model'))}, under {_word(licence)}"
        if start.get("attribution"):
            yield f"Attribution of that model: {_word(start['attribution'])}"
    if data.get("leak"):
        yield f"**{_word(data['leak'])}**"


def _protocol(manifest: Manifest, epochs: int | None) -> Iterable[str]:
    recipe = manifest.recipe
    data, training = _section(recipe, "data"), _section(recipe, "train")
    if data:
        fold, folds = data.get("fold"), data.get("folds")
        parts = f"fold {fold} of {folds} validates" if fold is not None else "one split"
        yield f"Split: {parts}; which case is in which part is in the run's `split.csv`"
    if "seed" in recipe:
        yield f"Seed: {_word(recipe['seed'])}, of the split, the weights, the order and the changes"
    if training:
        done = "" if epochs is None else f"{epochs} of "
        yield (
            f"Training: {done}at most {_word(training.get('epochs'))} epochs, "
            f"{_word(training.get('batch_size'))} "
            f"{'images' if manifest.volume is None else 'patches'} a step, "
            f"{_word(training.get('precision'))}"
        )
    yield (
        "Selection: the averaged weights of the epoch with the best validation Dice, before "
        "calibration and without post-processing"
    )


def _scores(manifest: Manifest, test: Mapping[str, Any] | None) -> Iterable[str]:
    if "val_dice" in manifest.scores:
        clicks = " (the mean over the first clicks)" if manifest.must_be_pointed else ""
        yield (
            f"Validation Dice at the network's size{clicks}: {manifest.scores['val_dice']:.4f}. "
            "These cases chose the epoch, so it is a little too good."
        )
    if test is None:
        yield NOT_COUNTED if manifest.must_be_pointed else NOT_SCORED
        return
    confidence = test["confidence"]
    summary = test["summary"]
    opened = int(test["test_openings"])
    yield (
        f"Test part, at the images' own size, opened {plural(opened, 'time')} by then, "
        f"convention {_word(test.get('convention', 'default'))}:"
    )
    for metric, interval in summary["mean"].items():
        yield f"Test {_word(metric)}: {_interval(interval, confidence)}"
    if len(summary["classes"]) > 1:
        for label, metrics in summary["classes"].items():
            yield f"Test dice of {_word(label)}: {_interval(metrics['dice'], confidence)}"
    if test.get("note"):
        yield f"**{_word(test['note'])}**"


def _interval(interval: Mapping[str, Any], confidence: float) -> str:
    mean, low, high = (interval[key] for key in ("mean", "low", "high"))
    if mean is None:
        return "undefined"
    bounds = (
        "no interval"
        if low is None or high is None
        else f"{100 * confidence:g} % interval {low:.4f} to {high:.4f}"
    )
    return f"{mean:.4f}, {bounds}, {plural(interval['n'], 'case')}"


def _calibration(manifest: Manifest) -> str:
    scores = manifest.scores
    if "val_ece" not in scores:
        return "Not calibrated: read the probabilities as scores."
    text = (
        f"The logits are divided by {manifest.temperature:g}, which makes the validation part's "
        "masks likeliest (Guo et al. 2017). Expected calibration error of its pixels: "
        f"{scores['val_ece_uncalibrated']:.4f} before, {scores['val_ece']:.4f} after, on the same "
        "pixels."
    )
    if manifest.temperature == 1:
        text += " A temperature of 1 changes nothing."
    return text


def _golden(manifest: Manifest) -> str:
    if not manifest.golden:
        return "None: the file holds no images."
    text = (
        f"{_golden_cases(manifest)}, and the masks that PyTorch gave them, by which an export is "
        "proved. They are real images"
    )
    if manifest.data.get("licence"):
        return f"{text}, under the licence of the data."
    return (
        f"{text}: pass the file on only to those who may see them, or train with "
        "`--set predict.golden=0`."
    )


def _golden_cases(manifest: Manifest) -> str:
    count = len(manifest.golden)
    if manifest.volume is None:
        return f"{plural(count, 'image')} of the validation part, at most 384 pixels a side"
    return f"Small pieces of {plural(count, 'volume')} of the validation part"


def _limits(manifest: Manifest) -> Iterable[str]:
    data, settings = manifest.data, manifest.preprocessing
    sizes = [data.get("height"), data.get("width")]
    if all(isinstance(each, list) and len(each) == 2 for each in sizes):
        (low, high), (left, right) = sizes  # type: ignore[misc]
        yield (
            f"Never seen: images below {_word(low)} or above {_word(high)} pixels of height, below "
            f"{_word(left)} or above {_word(right)} of width"
        )
    yield (
        f"Never seen: images of other than {plural(settings.channels, 'channel')}; grey and colour "
        "are turned into each other"
        if settings.channels in (1, 3)
        else f"Takes only images of {settings.channels} channels"
    )
    if manifest.volume is None:
        size = settings.image_size
        yield f"Sees {size} pixels a side: what is smaller in the resized image is lost"
    elif manifest.volume.spacing_mm is not None:
        mm = _times(manifest.volume.spacing_mm)
        yield f"Sees voxels of {mm} mm: what is smaller is lost"
    yield "Never seen: other devices, places, patients and findings than those in its training data"


def _section(recipe: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = recipe.get(name)
    return found if isinstance(found, Mapping) else {}


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _word(value: object) -> str:
    """On one line, and without what Markdown or a terminal would act on."""
    text = " ".join(str(value).split())
    return "".join(
        f"\\{character}" if character in "\\`*_[]<>|#" else character
        for character in text
        if character.isprintable()
    )
