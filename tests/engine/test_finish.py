from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from data.builders import noise, squares
from inference.builders import BINARY, ORGANS, bundle
from medseg.data.cache import CaseCache, PackedMasks
from medseg.data.case import IGNORE, Case
from medseg.data.source import File
from medseg.engine import finish
from medseg.engine import golden as golden_cases
from medseg.engine.finish import (
    GOLDEN_SIDE,
    Sample,
    choose_golden,
    fit_temperature,
    margin,
    take_sample,
)
from medseg.engine.train import train
from medseg.inference.bundle import read_card, read_golden, read_manifest
from medseg.inference.network import Model, load_network
from medseg.report.overlay import CLASS_COLOURS

TINY = ("network.widths=[8,8,8]", "network.depths=[1,1]", "network.kernel=3")


def sample(logits: NDArray[Any], classes: NDArray[Any]) -> Sample:
    count = len(classes)
    return Sample(
        logits.astype(np.float32), classes.astype(np.uint8), np.full(count, 1 / max(1, count))
    )


def drawn(temperature: float, classes: int, count: int = 40_000) -> Sample:
    """Pixels whose classes follow the probabilities at ``temperature``."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (count, classes))
    if classes == 2:
        logits[:, 0] = 0
    shares = np.exp(logits / temperature)
    shares /= shares.sum(axis=1, keepdims=True)
    found = (rng.random((count, 1)) > shares.cumsum(axis=1)).sum(axis=1)
    return sample(logits, np.minimum(found, classes - 1))


def likelihood(pixels: Sample, temperature: float) -> float:
    shares = pixels.probabilities(temperature)[np.arange(len(pixels.classes)), pixels.classes]
    return float(pixels.weights @ np.log(shares))


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("temperature", [0.25, 1.0, 6.0])
def test_the_temperature_by_which_pixels_were_drawn_is_found(
    classes: int, temperature: float
) -> None:
    assert fit_temperature(drawn(temperature, classes)) == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("classes", [2, 4])
def test_no_other_temperature_is_likelier(classes: int) -> None:
    pixels = drawn(2.0, classes, 500)
    found = fit_temperature(pixels)
    best = likelihood(pixels, found)
    assert all(likelihood(pixels, other) < best for other in (0.98 * found, 1.02 * found, 1.0))


def test_calibration_lowers_the_calibration_error() -> None:
    pixels = drawn(3.0, 2)
    after = pixels.calibration_error(fit_temperature(pixels))
    assert after < 0.01 < 0.1 < pixels.calibration_error(1.0)


def test_a_network_that_is_worse_than_chance_is_as_unsure_as_allowed() -> None:
    pixels = drawn(1.0, 2, 500)
    assert fit_temperature(sample(-pixels.logits, pixels.classes)) == 20


def test_a_network_that_is_far_too_unsure_becomes_as_sure_as_allowed() -> None:
    pixels = drawn(1.0, 2, 500)
    assert fit_temperature(sample(pixels.logits / 1000, pixels.classes)) == 0.05


@pytest.mark.parametrize(
    ("logits", "classes"),
    [
        (np.zeros((0, 2)), []),
        (np.zeros((3, 2)), [0, 1, 1]),
        (np.array([[0, 3], [0, -2]]), [1, 0]),
        (np.array([[0, np.nan], [0, 2]]), [1, 0]),
        (np.array([[0, np.inf], [0, 2]]), [0, 0]),
    ],
    ids=["no pixels", "not told apart", "all right", "not a number", "infinite"],
)
def test_pixels_that_say_nothing_of_it_leave_the_temperature_at_one(
    logits: NDArray[Any], classes: list[int]
) -> None:
    assert fit_temperature(sample(logits, np.array(classes, np.uint8))) == 1


def test_every_image_counts_as_much_as_any_other() -> None:
    first, second = drawn(0.5, 2, 400), drawn(4.0, 2, 400)

    def both(repeats: int) -> Sample:
        parts = (first.logits, *[second.logits] * repeats)
        found = np.concatenate([first.classes, *[second.classes] * repeats])
        weights = np.concatenate([first.weights, *[second.weights / repeats] * repeats])
        return Sample(np.concatenate(parts), found, weights)

    assert fit_temperature(both(5)) == fit_temperature(both(1))


def at_temperature(model: Model, temperature: float) -> Model:
    manifest = model.manifest.model_copy(update={"temperature": temperature})
    return Model(manifest, model.network, device="cpu")


@pytest.mark.parametrize("labels", [BINARY, ORGANS])
@pytest.mark.parametrize("temperature", [0.05, 0.7311, 20.0])
def test_the_temperature_changes_probabilities_and_no_mask(
    tmp_path: Path, labels: dict[str, int], temperature: float
) -> None:
    plain = load_network(bundle(tmp_path / "m.medseg", labels), device="cpu")
    calibrated = at_temperature(plain, temperature)
    for seed in range(5):
        image = noise(seed, (40 + seed, 57))
        assert np.array_equal(calibrated.predict(image), plain.predict(image))
        changed = calibrated.predict_probabilities(image) - plain.predict_probabilities(image)
        assert np.abs(changed).max() > 0.01


def files(folder: Path, *sizes: tuple[int, int]) -> list[Case]:
    cases = []
    for seed, size in enumerate(sizes):
        Image.fromarray(noise(seed, size)).save(folder / f"{seed}.png")
        cases.append(Case(str(seed), File(folder / f"{seed}.png")))
    return cases


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return load_network(bundle(tmp_path / "m.medseg"), device="cpu")


def test_golden_cases_are_the_first_ones_with_the_masks_of_the_model(
    tmp_path: Path, model: Model
) -> None:
    cases = files(tmp_path, (20, 30), (31, 17), (9, 9))
    golden = choose_golden(model, cases, 2)
    assert [case.image.shape for case in golden] == [(20, 30, 3), (31, 17, 3)]
    for case in golden:
        assert np.array_equal(case.classes, model.predict(case.image) > 0)


def test_large_golden_images_become_small_and_keep_their_shape(
    tmp_path: Path, model: Model
) -> None:
    (case,) = choose_golden(model, files(tmp_path, (100, 1000)), 1)
    assert case.image.shape == (round(100 * GOLDEN_SIDE / 1000), GOLDEN_SIDE, 3)
    assert case.classes.shape == case.image.shape[:2]


def test_no_image_is_opened_where_no_golden_case_is_wanted(tmp_path: Path, model: Model) -> None:
    missing = Case("0", File(tmp_path / "missing.png"))
    assert choose_golden(model, [missing], 0) == ()


def undecided(model: Model, image: NDArray[np.uint8]) -> Model:
    """A model whose threshold is the probability of a pixel of ``image``."""
    threshold = float(model.predict_probabilities(image)[0, 3, 3])
    return Model(model.manifest.model_copy(update={"threshold": threshold}), model.network,
                 device="cpu")  # fmt: skip


def test_an_image_with_a_pixel_that_rounding_decides_makes_place(
    tmp_path: Path, model: Model
) -> None:
    cases = files(tmp_path, (20, 30), (10, 10), (11, 11))
    strict = undecided(model, noise(0, (20, 30)))
    assert [case.image.shape for case in choose_golden(strict, cases, 1)] != [(20, 30, 3)]
    assert [case.image.shape for case in choose_golden(strict, cases[:1], 1)] == [(20, 30, 3)]


def test_where_rounding_decides_in_every_image_the_clearest_stays(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden_cases, "_UNDECIDED", 1.0)
    cases = files(tmp_path, (20, 30), (10, 10), (11, 11))
    strict = undecided(model, noise(0, (20, 30)))
    (found,) = choose_golden(strict, cases, 1)
    margins = {
        case.image.shape: margin(
            strict.predict_probabilities(case.image), strict.manifest.threshold
        )
        for case in choose_golden(strict, cases, 3)
    }
    assert margins[found.image.shape] == max(margins.values())
    assert margins[20, 30, 3] == 0


def test_the_margin_is_the_distance_of_the_least_certain_pixel() -> None:
    binary = np.array([[[0.1, 0.45, 0.9]]], np.float32)
    assert margin(binary, 0.5) == pytest.approx(0.05)
    several = np.array([[[0.5, 0.2]], [[0.3, 0.6]], [[0.2, 0.2]]], np.float32)
    assert margin(several, 0.5) == pytest.approx(0.2)


def test_a_run_carries_golden_cases_that_its_network_reproduces(trained: Path) -> None:
    golden = read_golden(trained / "model.medseg")
    model = load_network(trained, device="cpu")
    assert len(golden) == 2  # as many as the validation part has
    for case in golden:
        assert np.array_equal(model.predict(case.image), np.where(case.classes, 255, 0))
        assert case.classes.any()


def test_a_run_is_calibrated_and_says_how_well(trained: Path) -> None:
    manifest = read_manifest(trained / "model.medseg")
    assert 0.05 <= manifest.temperature <= 20
    assert 0 <= manifest.scores["val_ece"] <= 1
    assert 0 <= manifest.scores["val_ece_uncalibrated"] <= 1


def test_classes_have_the_colours_of_the_overlays(trained: Path) -> None:
    background, foreground = read_manifest(trained / "model.medseg").labels
    assert background.colour is None
    assert foreground.colour == "#{:02x}{:02x}{:02x}".format(*CLASS_COLOURS[0])


def test_what_the_recipe_says_of_the_model_is_in_it(tmp_path: Path) -> None:
    data = squares(tmp_path / "data", classes=3)
    options: dict[str, Any] = {
        "epochs": 1, "image_size": 16, "batch_size": 2, "device": "cpu", "quiet": True
    }  # fmt: skip
    said = ("predict.golden=0", "predict.keep_largest=true", "predict.min_pixels=3",
            "predict.licence=CC-BY-4.0")  # fmt: skip
    plain = train(data, output=tmp_path / "plain", settings=TINY, **options)
    told = train(data, output=tmp_path / "told", settings=(*TINY, *said), **options)
    manifest = read_manifest(told.bundle)
    assert manifest.golden == () == read_golden(told.bundle)
    assert manifest.postprocessing.keep_largest
    assert manifest.postprocessing.min_pixels == 3
    assert manifest.licence == "CC-BY-4.0"
    assert "the file holds no images" in read_card(told.bundle)
    # And none of it touches what was learnt.
    before = read_manifest(plain.bundle)
    assert len(before.golden) == 1
    assert before.weights_sha256 == manifest.weights_sha256
    assert before.temperature == manifest.temperature


def cached(images: NDArray[np.uint8], masks: NDArray[np.uint8]) -> CaseCache:
    streams = [zlib.compress(mask.tobytes()) for mask in masks]
    packed = PackedMasks(
        np.frombuffer(b"".join(streams), np.uint8),
        np.cumsum([0, *map(len, streams)]),
        masks.shape[1],
    )
    sums = np.zeros((len(images), images.shape[3], 2), np.int64)
    ids = tuple(map(str, range(len(images))))
    return CaseCache(Path("unused"), ids, images, packed, sums, reused=False)


@pytest.mark.parametrize("labels", [BINARY, ORGANS])
def test_the_sample_is_what_the_network_says_of_the_known_pixels(
    tmp_path: Path, labels: dict[str, int]
) -> None:
    model = load_network(bundle(tmp_path / "m.medseg", labels), device="cpu")
    images = np.stack([noise(seed, (32, 32)) for seed in range(3)])
    masks = np.random.default_rng(0).integers(0, len(labels), (3, 32, 32)).astype(np.uint8)
    masks[1, :16] = IGNORE
    pixels = take_sample(model, cached(images, masks), np.array([2, 1]), Console(quiet=True))
    known = masks[[2, 1]] != IGNORE
    assert np.array_equal(pixels.classes, masks[[2, 1]][known])
    assert pixels.weights.sum() == pytest.approx(2)
    assert pixels.weights[: 32 * 32].sum() == pytest.approx(1)
    shares = np.stack([model.predict_probabilities(images[row]) for row in (2, 1)])
    expected = np.moveaxis(shares, 1, -1)[known]
    found = pixels.probabilities(1.0)
    assert np.abs((found[:, 1:] if len(labels) == 2 else found) - expected).max() < 1e-5


def test_of_many_pixels_evenly_spaced_ones_are_kept(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finish, "_MAX_LOGITS", 2 * 2 * 11 * 11)
    images = np.stack([noise(seed, (32, 32)) for seed in range(2)])
    masks = np.zeros((2, 32, 32), np.uint8)
    masks[:, ::3, ::3] = 1
    pixels = take_sample(model, cached(images, masks), np.arange(2), Console(quiet=True))
    assert len(pixels.classes) == 2 * 11 * 11
    assert pixels.classes.all()


def test_side_heads_are_not_shipped(tmp_path: Path) -> None:
    run = train(
        squares(tmp_path / "data"), output=tmp_path / "run", image_size=16, epochs=1, batch_size=2,
        settings=(*TINY, "network.side_heads=true", "loss.deep_supervision=[0.5]"), device="cpu",
        quiet=True,
    )  # fmt: skip
    assert "loss_deep_supervision" in (run.folder / "metrics.jsonl").read_text()
    shipped = load_network(run.folder)
    assert not shipped.manifest.network["side_heads"]
    assert not any(name.startswith("side_heads") for name in shipped.network.state_dict())
