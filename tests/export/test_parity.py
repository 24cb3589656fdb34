from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.builders import bundle
from medseg.errors import ModelError
from medseg.export.formats import Artefact, CalledModel, Run
from medseg.export.parity import (
    UNDECIDED,
    check_parity,
    check_shapes,
    compare,
    decided,
    synthetic,
    synthetic_cases,
)
from medseg.inference.bundle import Golden, Manifest
from medseg.inference.network import Model, load_network

from .conftest import noise


@pytest.fixture(scope="module")
def nuclei(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A binary model."""
    path = bundle(tmp_path_factory.mktemp("nuclei") / "m.medseg", size=16)
    return load_network(path, device="cpu")


def constant(manifest: Manifest, shares: NDArray[np.float32]) -> Artefact:
    """Gives ``shares`` whatever the image."""

    def run(images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        classes = CalledModel(manifest, run).decide(shares)
        return classes[None].repeat(len(images), 0), shares[None].repeat(len(images), 0)

    return Artefact(CalledModel(manifest, run), run)


def test_flipped_pixels_are_counted_with_their_distance_from_the_threshold(nuclei: Model) -> None:
    shares = np.full((1, 4, 5), 0.25, np.float32)
    shares[0, 1, 2:4] = 0.53, 0.51
    expected = Golden(noise((4, 5)), np.zeros((4, 5), np.uint8))
    found = compare(constant(nuclei.manifest, shares).predictor, expected)
    assert (found.flipped, found.pixels) == (2, 20)
    assert found.farthest == pytest.approx(0.03, abs=1e-6)


def test_with_several_classes_the_distance_is_that_of_the_two_likeliest(model: Model) -> None:
    shares = np.zeros((3, 2, 2), np.float32)
    shares[:, :, :] = np.array([0.2, 0.35, 0.45], np.float32)[:, None, None]
    expected = Golden(noise((2, 2)), np.array([[2, 2], [1, 2]], np.uint8))
    found = compare(constant(model.manifest, shares).predictor, expected)
    assert found.flipped == 1
    assert found.farthest == pytest.approx(0.1, abs=1e-6)


def test_a_single_flipped_pixel_is_refused_and_described(nuclei: Model) -> None:
    shares = np.full((1, 4, 5), 0.25, np.float32)
    same = Golden(noise((4, 5)), np.zeros((4, 5), np.uint8))
    other = replace(same, classes=same.classes.copy())
    other.classes[3, 1] = 1
    artefact = constant(nuclei.manifest, shares)
    check_parity(artefact, [same], "m.onnx", artefact.predictor)
    with pytest.raises(
        ModelError,
        match=r"m\.onnx: it does not give PyTorch's masks: it flips 1 of 20 pixels of case 1 "
        r"\(at most 2\.5e-01 from the decision\)\. Nothing was written",
    ):
        check_parity(artefact, [same, other], "m.onnx", artefact.predictor)


def test_where_pytorch_differs_as_well_the_message_says_so(nuclei: Model) -> None:
    image = noise((8, 9))
    (right,) = decided(nuclei, [image], 1)
    wrong = constant(nuclei.manifest, np.full((1, 8, 9), 0.25, np.float32))
    with pytest.raises(ModelError, match="Try another --format or --opset"):
        check_parity(wrong, [right], "m", nuclei)
    stale = Golden(image, 1 - right.classes)
    with pytest.raises(ModelError, match="PyTorch on this machine flips 72 as well"):
        check_parity(wrong, [stale], "m", nuclei)


def _fails(run: Run) -> Run:
    def limited(images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        if len(images) > 1:
            raise ValueError("Got: 2 Expected: 1")
        return run(images)

    return limited


def _mixes(run: Run) -> Run:
    def mixing(images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        mask, shares = run(images)
        return mask, np.broadcast_to(shares.mean(0, keepdims=True), shares.shape)

    return mixing


def _crops(run: Run) -> Run:
    def cropping(images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        mask, shares = run(images)
        return mask[:, :37], shares[:, :, :37]

    return cropping


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(_fails, r"fails on two images of 50 x 37 pixels \(Got: 2"),
     (_mixes, "get other masks than each alone"),
     (_crops, r"41 x 72 pixels it makes \(2, 1, 37, 41\), not \(2, 1, 72, 41\)")],
)  # fmt: skip
def test_a_graph_that_does_not_take_any_batch_and_size_is_refused(
    spoil: object, said: str, nuclei: Model
) -> None:
    def run(images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        shares = (images.mean(-1) / 255).astype(np.float32)[:, None]
        return (shares[:, 0] >= 0.5).astype(np.uint8), shares

    check_shapes(Artefact(nuclei, run), "m")
    with pytest.raises(ModelError, match=said):
        check_shapes(Artefact(nuclei, spoil(run)), "m")  # type: ignore[operator]


def test_synthetic_cases_are_always_the_same_and_of_several_sizes(model: Model) -> None:
    one, two = synthetic_cases(model), synthetic_cases(model)
    assert len({case.classes.shape for case in one}) == 3
    for a, b in zip(one, two, strict=True):
        assert np.array_equal(a.image, b.image)
        assert np.array_equal(a.classes, b.classes)


def test_synthetic_cases_have_no_pixel_that_rounding_decides(nuclei: Model) -> None:
    for case in synthetic_cases(nuclei):
        shares = nuclei.predict_probabilities(case.image)
        assert np.abs(shares - 0.5).min() > UNDECIDED


def test_images_with_an_undecided_pixel_come_last(nuclei: Model) -> None:
    images = [noise((6, 6), seed) for seed in range(3)]
    first = constant(nuclei.manifest, np.full((1, 6, 6), 0.5, np.float32)).predictor
    shares = iter([0.5, 0.2, 0.5])

    class Wavering(CalledModel):
        engine = "onnx"

        def __init__(self) -> None:
            super().__init__(first.manifest, self._run)

        def _run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
            values = np.full((1, 1, 6, 6), next(shares), np.float32)
            return (values[0] >= 0.5).astype(np.uint8), values

    chosen = list(decided(Wavering(), images, 2))
    assert np.array_equal(chosen[0].image, images[1])
    assert np.array_equal(chosen[1].image, images[0])


def test_a_synthetic_image_fits_the_model(tmp_path: Path) -> None:
    grey = load_network(bundle(tmp_path / "m.medseg", channels=1), device="cpu")
    image = synthetic(grey.manifest, (20, 33), 0)
    assert (image.shape, image.dtype) == ((20, 33, 1), np.uint8)
    assert image.std() > 20
