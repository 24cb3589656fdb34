"""Explanations of models of volumes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from commands import left_in, medseg
from data.builders import dataset
from data.volumes import save_nifti
from inference.volumes.builders import ORGANS, PATCH, SYSTEM, bundle, model
from medseg.explain.evidence import grad_cam_plus_plus, occlusion, seg_grad_cam
from medseg.explain.explanation import layers_of
from medseg.explain.slice_view import SliceView
from medseg.explain.target import Target
from medseg.explain.volumes import VolumeExplainer, as_picture, cut_window
from medseg.inference.inputs import find_inputs
from medseg.inference.volumes.geometry import read_for_network

SIDES = st.tuples(*[st.integers(1, 9)] * 3)


def noise(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    image = 100 + 20 * noise(12, 16, 5).numpy()
    image[4:9, 3:10, 2:4] += 100
    return save_nifti(tmp_path / "scan.nii.gz", image)


def test_a_slice_in_its_own_place_has_the_logits_of_the_window() -> None:
    network, window = model().network, noise(1, *PATCH)
    with torch.no_grad():
        whole = network(window[None])
        for index in range(PATCH[0]):
            found = SliceView(network, window, index)(window[None, :, index])
            assert torch.equal(found, whole[:, :, index])


@given(st.integers(1, 20), st.sampled_from([1, 2, 4]), st.data())
def test_a_slice_is_found_in_coarser_maps(depth: int, factor: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, factor * depth - 1))
    view = SliceView(nn.Identity(), torch.zeros(1, factor * depth, 1, 1), index)
    assert view.place(depth) == index // factor
    assert view.place(1) == 0


class Weighted(nn.Module):
    """Two maps, whose weighted sum is the logit."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv3d(1, 2, 1)
        self.head = nn.Conv3d(2, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        found: Tensor = self.head(self.maps(image))
        return found


def test_a_map_of_a_volume_is_weighted_by_all_its_gradients_and_shown_in_the_slice() -> None:
    torch.manual_seed(0)
    network = Weighted()
    window = noise(1, *PATCH)
    view = SliceView(network, window, 2)
    region = (noise(*PATCH[1:]) > 0).float()
    found = seg_grad_cam(view, window[None, :, 2], Target(1, region), "maps")
    with torch.no_grad():
        maps = network.maps(window[None])[0, :, 2]
        share = network.head.weight.flatten() * region.sum() / np.prod(PATCH)
        expected = (share[:, None, None] * maps).sum(0)
    assert torch.allclose(found, expected, atol=1e-6)
    positive = grad_cam_plus_plus(view, window[None, :, 2], Target(1, region), "maps")
    assert positive.shape == PATCH[1:]
    assert positive.min() >= 0


def test_hidden_squares_cover_an_image_that_is_no_square() -> None:
    network = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(network.weight)
    image = torch.ones(1, 1, 6, 12)
    falls = occlusion(network, image, Target(1, torch.ones(6, 12)), 3)
    # Squares of 4 x 8 pixels, cut off at the edges.
    assert falls.tolist() == [[3 * 6, 3 * 8, 3 * 6], [4 * 6, 4 * 8, 4 * 6], [3 * 6, 3 * 8, 3 * 6]]


@given(SIDES, SIDES, st.data())
def test_a_window_holds_the_voxel_it_is_cut_around(
    patch: tuple[int, int, int], more: tuple[int, int, int], data: st.DataObject
) -> None:
    shape = [side + extra - 1 for side, extra in zip(patch, more, strict=True)]
    middle = [data.draw(st.integers(0, length - 1)) for length in shape]
    numbers = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape)
    window, place = cut_window(numbers, middle, patch)
    assert window.shape == (1, *patch)
    assert numbers[0, *middle] in window[0, place]


def test_a_picture_goes_from_black_to_white() -> None:
    picture = as_picture(np.linspace(-3, 5, 600, dtype=np.float32).reshape(20, 30))
    assert picture.shape == (20, 30, 1)
    assert (picture.min(), picture.max()) == (0, 255)
    assert as_picture(np.ones((2, 2), np.float32)).max() == 0


def test_the_slice_with_most_of_the_class_is_explained(volume: Path) -> None:
    explainer = VolumeExplainer(model(ORGANS, spacing_mm=(5.0, 2.0, 2.0)), label="liver")
    sources = explainer.sources(find_inputs([volume], channels=1))
    assert list(sources) == ["scan"]
    picture, found = explainer.explain_source(sources["scan"], None)
    assert found.label == "liver"
    assert found.map.shape == found.region.shape == picture.shape[:2] == PATCH[1:]
    assert found.region.any()
    own = explainer.volume_model
    image, shape = read_for_network(sources["scan"], own.settings, 1, 10**6)
    whole = own.classify(image, shape) == 1
    index, middle = explainer._middle(image)
    assert index == 1
    assert whole[middle[0]].sum() == whole.sum(axis=(1, 2)).max()


def test_layers_have_the_height_and_width_of_their_maps() -> None:
    found = {each.name: (each.channels, each.height, each.width) for each in layers_of(model())}
    assert found["layers.0"] == (4, *PATCH[1:])
    assert found["layers.2"] == (len(ORGANS), *PATCH[1:])


def test_the_command_writes_a_picture_and_scores_of_each_volume(
    volume: Path, tmp_path: Path
) -> None:
    source = bundle(tmp_path / "m.medseg")
    ran = medseg("explain", source, volume, "-o", tmp_path / "why", "--system", SYSTEM)
    assert ran.code == 0, ran.message
    assert "1 explanation written" in ran.out
    assert left_in(tmp_path / "why") == {
        "scan.png", "explanations.csv", "explanations.json", "index.html"
    }  # fmt: skip
    with (tmp_path / "why" / "explanations.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["case"], row["status"]) == ("scan", "ok")
    assert 0 <= float(row["deletion"]) <= 1
    record = json.loads((tmp_path / "why" / "explanations.json").read_text())
    assert record["how"]["layer"].startswith("layers")


@pytest.mark.parametrize("option", [("--at", "1,2"), ("--region", "1,2,3,4"), ("--mask", ".")])
def test_what_is_for_pictures_is_refused(
    option: tuple[str, str], volume: Path, tmp_path: Path
) -> None:
    source = bundle(tmp_path / "m.medseg")
    ran = medseg("explain", source, volume, "-o", tmp_path / "why", "--system", SYSTEM, *option)
    assert ran.code == 2
    assert f"{option[0]}: it is for models of pictures" in ran.message


def test_pictures_are_listed_as_unreadable(tmp_path: Path) -> None:
    source = bundle(tmp_path / "m.medseg")
    photos = dataset(tmp_path / "photos", 1)
    ran = medseg("explain", source, photos, "-o", tmp_path / "why", "--system", SYSTEM)
    assert ran.code == 1
    assert "is a picture, and the model takes volumes" in ran.message
