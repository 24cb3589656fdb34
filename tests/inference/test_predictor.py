from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from medseg.errors import DataError, ModelError, RecipeError
from medseg.inference.bundle import write_bundle
from medseg.inference.network import Model
from medseg.inference.network import load_network as load

from .builders import BINARY, COLOURS, NETWORK, ORGANS, bundle, manifest_and_weights

PIXELWISE = """
from torch import nn

class Pixelwise(nn.Conv2d):
    def __init__(self, in_channels, num_classes):
        super().__init__(in_channels, num_classes, 1)
"""


def noise(seed: int = 0, size: tuple[int, int] = (40, 52), channels: int = 3) -> NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (*size, channels), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(bundle(tmp_path_factory.mktemp("run") / "model.medseg"))


@pytest.fixture(scope="module")
def organs(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(bundle(tmp_path_factory.mktemp("run") / "model.medseg", ORGANS))


@given(height=st.integers(1, 90), width=st.integers(1, 90), channels=st.sampled_from([1, 3]))
@settings(deadline=None, max_examples=25)
def test_a_mask_has_the_size_of_its_image(
    model: Model, height: int, width: int, channels: int
) -> None:
    mask = model.predict(noise(0, (height, width), channels))
    assert mask.shape == (height, width)


def test_an_array_and_its_file_give_the_same_mask(model: Model, tmp_path: Path) -> None:
    image = noise()
    Image.fromarray(image).save(tmp_path / "a.png")
    mask = model.predict(image)
    assert len(np.unique(mask)) == 2
    assert np.array_equal(model.predict(tmp_path / "a.png"), mask)
    assert np.array_equal(model.predict(str(tmp_path / "a.png")), mask)


def test_an_exif_rotated_file_gives_the_mask_of_what_a_viewer_shows(
    model: Model, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise()).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(model.predict(tmp_path / "a.png"), model.predict(np.rot90(noise(), -1)))


def test_memory_layout_of_the_array_does_not_matter(model: Model) -> None:
    image = noise(size=(32, 32))
    flipped = image[:, ::-1]
    assert np.array_equal(model.predict(flipped), model.predict(flipped.copy()))


def test_a_grey_image_is_read_like_the_same_image_in_colour(model: Model) -> None:
    grey = noise(channels=1)
    colour = model.predict(grey.repeat(3, axis=2))
    assert np.array_equal(model.predict(grey), colour)
    assert np.array_equal(model.predict(grey[..., 0]), colour)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 5, 2), np.uint8),
        np.zeros((4, 5, 3), np.float32),
        np.zeros((4,), np.uint8),
        np.zeros((0, 5), np.uint8),
    ],
)
def test_another_kind_of_array_is_refused(model: Model, array: NDArray[Any]) -> None:
    with pytest.raises(DataError, match=r"an array of shape|has 2 channels where 3"):
        model.predict(array)


def test_masks_hold_the_values_of_the_training_masks(organs: Model) -> None:
    mask = organs.predict(noise())
    assert set(np.unique(mask).tolist()) == set(ORGANS.values())
    assert mask.dtype == np.uint16


def test_binary_masks_hold_the_value_of_the_foreground(model: Model) -> None:
    mask = model.predict(noise())
    assert set(np.unique(mask).tolist()) == set(BINARY.values())
    assert mask.dtype == np.uint8


def test_rgb_coded_masks_hold_the_colours(tmp_path: Path) -> None:
    model = load(bundle(tmp_path / "m.medseg", COLOURS, rgb=True))
    mask = model.predict(noise()).astype(np.int64)
    found = mask[..., 0] << 16 | mask[..., 1] << 8 | mask[..., 2]
    assert set(np.unique(found).tolist()) == set(COLOURS.values())


def test_probabilities_sum_to_one_and_their_largest_is_the_mask(organs: Model) -> None:
    probabilities = organs.predict_probabilities(noise())
    assert probabilities.shape == (3, 40, 52)
    assert np.allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    values = np.array(list(ORGANS.values()))
    assert np.array_equal(values[probabilities.argmax(axis=0)], organs.predict(noise()))


def test_a_binary_mask_is_where_the_probability_reaches_the_threshold(tmp_path: Path) -> None:
    manifest, weights = manifest_and_weights()
    write_bundle(tmp_path / "m.medseg", manifest.model_copy(update={"threshold": 0.7}), weights)
    model = load(tmp_path / "m.medseg")
    probabilities = model.predict_probabilities(noise())
    assert probabilities.shape == (1, 40, 52)
    assert 0 < (probabilities >= 0.7).mean() < (probabilities >= 0.5).mean()
    assert np.array_equal(model.predict(noise()) == 255, probabilities[0] >= 0.7)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("which", ["model", "organs"])
def test_test_time_augmentation_commutes_with_flips(
    which: str, axis: int, request: pytest.FixtureRequest
) -> None:
    model: Model = request.getfixturevalue(which)
    image, flipped = noise(), np.flip(noise(), axis)

    def difference(tta: bool) -> float:
        straight = model.predict_probabilities(image, tta=tta)
        turned = model.predict_probabilities(flipped, tta=tta)
        return float(np.abs(np.flip(turned, axis + 1) - straight).max())

    assert difference(tta=True) < 1e-5 < difference(tta=False)


def test_a_network_that_knows_no_direction_gains_nothing_from_flips(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(PIXELWISE)
    state = {"weight": torch.randn(1, 3, 1, 1), "bias": torch.zeros(1)}
    torch.save(state, tmp_path / "net.pth")
    model = load(tmp_path / "net.pth", trust=True, system=str(tmp_path / "net.py"))
    plain = model.predict_probabilities(noise())
    assert np.allclose(model.predict_probabilities(noise(), tta=True), plain, atol=1e-5)


def test_the_network_sees_the_image_scaled_and_normalised(model: Model) -> None:
    tensor = model.preprocess(np.full((7, 9, 3), 255, np.uint8))
    assert tensor.shape == (3, 32, 32)
    assert torch.equal(tensor, torch.full((3, 32, 32), 2.0))


def test_a_grey_model_reads_colour_images(tmp_path: Path) -> None:
    model = load(bundle(tmp_path / "m.medseg", channels=1))
    luma = np.asarray(Image.fromarray(noise()).convert("L"))
    assert np.array_equal(model.predict(noise()), model.predict(luma))


def test_a_run_folder_loads_like_its_bundle(model: Model, tmp_path: Path) -> None:
    bundle(tmp_path / "model.medseg")
    assert np.array_equal(load(tmp_path).predict(noise()), model.predict(noise()))


def test_predicting_leaves_the_weights_alone(model: Model) -> None:
    before = {k: v.clone() for k, v in model.network.state_dict().items()}
    model.predict(noise(), tta=True)
    assert all(torch.equal(v, before[k]) for k, v in model.network.state_dict().items())


@pytest.mark.parametrize(
    "network",
    [
        {**NETWORK, "kernel": 5},
        {**NETWORK, "kernel": "three"},
        {**NETWORK, "gate": "magic"},
        {**NETWORK, "expantion": 2},
        {**NETWORK, "in_channels": 3},
        {**NETWORK, "name": "unet"},
    ],
)
def test_a_bundle_whose_weights_do_not_fit_its_network_is_refused(
    tmp_path: Path, network: dict[str, Any]
) -> None:
    manifest, weights = manifest_and_weights()
    write_bundle(tmp_path / "m.medseg", manifest.model_copy(update={"network": network}), weights)
    with pytest.raises(ModelError, match=r"m\.medseg: its weights do not fit its network"):
        load(tmp_path / "m.medseg")


def test_a_bundle_never_runs_a_python_file_that_the_caller_has_not_named(tmp_path: Path) -> None:
    net = tmp_path / "net.py"
    net.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n{PIXELWISE}")
    manifest, weights = manifest_and_weights()
    other = manifest.model_copy(update={"system": str(net), "network": {}})
    write_bundle(tmp_path / "m.medseg", other, weights)
    with pytest.raises(ModelError, match="Name that file with --system"):
        load(tmp_path / "m.medseg")
    assert not (tmp_path / "ran").exists()


class Harmful:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".PTH", ".ckpt", ".bin", ".pkl"])
def test_a_foreign_pickle_is_refused_and_its_code_not_run(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(pickle.dumps(Harmful(tmp_path / "ran")))
    with pytest.raises(ModelError, match="can run any code"):
        load(path, system="unet")
    assert not (tmp_path / "ran").exists()


def test_a_pickle_named_like_a_bundle_is_not_run_either(tmp_path: Path) -> None:
    path = tmp_path / "model.medseg"
    path.write_bytes(pickle.dumps(Harmful(tmp_path / "ran")))
    with pytest.raises(ModelError):
        load(tmp_path, trust=True, system="unet")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("classes", [1, 2, 3])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_trusted_state_dict_predicts_with_the_network_that_is_named(
    tmp_path: Path, classes: int, wrapped: bool
) -> None:
    (tmp_path / "net.py").write_text(PIXELWISE)
    state = {"weight": torch.randn(classes, 3, 1, 1), "bias": torch.zeros(classes)}
    torch.save({"state_dict": state} if wrapped else state, tmp_path / "net.pth")
    model = load(tmp_path / "net.pth", trust=True, system=str(tmp_path / "net.py"))
    mask = model.predict(noise(size=(256, 256)))
    x = torch.from_numpy(noise(size=(256, 256)) / 127.5 - 1).float().permute(2, 0, 1)
    logits = torch.einsum("oi,ihw->ohw", state["weight"][:, :, 0, 0], x)
    expected = (logits[0] >= 0) if classes == 1 else logits.argmax(0)
    assert (torch.from_numpy(mask) != expected).float().mean() < 1e-3


def test_a_trusted_state_dict_needs_a_network(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "net.pth")
    with pytest.raises(ModelError, match="--system"):
        load(tmp_path / "net.pth", trust=True)


def test_a_state_dict_of_another_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(PIXELWISE)
    torch.save({"other.weight": torch.zeros(1, 3, 1, 1)}, tmp_path / "net.pth")
    with pytest.raises(ModelError, match="does not fit"):
        load(tmp_path / "net.pth", trust=True, system=str(tmp_path / "net.py"))


@pytest.mark.parametrize("content", [[1, 2], {"weight": 1}, {}, "text"])
def test_a_trusted_pickle_without_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(ModelError, match=r"net\.pth"):
        load(tmp_path / "net.pth", trust=True, system="unet")


def test_a_damaged_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"not a pickle")
    with pytest.raises(ModelError, match="cannot be unpickled"):
        load(tmp_path / "net.pth", trust=True, system="unet")


def test_an_unknown_system_for_a_pickle_names_the_nearest(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1, 3, 1, 1)}, tmp_path / "net.pth")
    with pytest.raises(RecipeError, match="Did you mean 'unet'"):
        load(tmp_path / "net.pth", trust=True, system="unett")
