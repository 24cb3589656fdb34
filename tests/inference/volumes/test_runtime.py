"""Volumes in ONNX Runtime: as with PyTorch, and without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import medseg
from commands import left_in
from commands import medseg as command
from data.volumes import save_nifti
from medseg.errors import ModelError
from medseg.export.graph import volume_to_onnx
from medseg.inference.bundle import write_bundle
from medseg.inference.volumes.predictor import VolumeOptions
from medseg.inference.volumes.runtime import OnnxVolumeModel
from medseg.inference.volumes.sliding import Windows, mirrored, slide
from medseg.inference.volumes.streaming import Linear

from .builders import BINARY, ORGANS, PATCH, manifest_and_weights, model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def graph() -> bytes:
    return volume_to_onnx(model(ORGANS, mirror=(0, 2)))


@pytest.fixture(scope="module")
def exported(graph: bytes) -> OnnxVolumeModel:
    return OnnxVolumeModel(model(ORGANS, mirror=(0, 2)).manifest, graph, threads=1)


LENGTHS = st.integers(1, 9)


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.integers(4, 12)] * 3), st.sampled_from([0, 0.25, 0.5]))
def test_windows_are_averaged_to_the_same_bits_in_numpy(
    shape: tuple[int, int, int], overlap: float
) -> None:
    windows = Windows(shape, (4, 3, 2), overlap)
    image = noise(2, *shape)

    def network(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return values * 3 + values[:, ::-1]

    def in_torch(values: torch.Tensor) -> torch.Tensor:
        return values * 3 + values.flip(1)

    axes = (0, 2)
    own = np.stack(list(slide(mirrored(network, axes), image, windows)))
    theirs = slide(mirrored(in_torch, axes), torch.from_numpy(image), windows)
    assert np.array_equal(own, torch.stack(list(theirs)).numpy())


@settings(max_examples=20, deadline=None)
@given(LENGTHS, LENGTHS)
def test_grids_are_interpolated_to_the_same_bits_in_numpy(length: int, wanted: int) -> None:
    values = noise(2, length, 3)
    linear = Linear(length, wanted)
    own = linear.stretch(values, 1, 0, wanted)
    theirs = linear.stretch(torch.from_numpy(values), 1, 0, wanted)
    assert np.array_equal(own, theirs.numpy())
    planes = list(linear.stream(iter(np.moveaxis(values, 1, 0))))
    assert np.array_equal(np.stack(planes, 1), own)


@pytest.mark.parametrize("labels", [BINARY, ORGANS])
def test_masks_and_probabilities_are_those_of_pytorch(labels: dict[str, int]) -> None:
    ours = model(labels, mirror=(1,), recipe={})
    theirs = OnnxVolumeModel(ours.manifest, volume_to_onnx(ours), threads=1)
    image = noise(9, 17, 14)
    for tta in (False, True):
        options = VolumeOptions(tta, with_probabilities=True)
        found, due = (m.predict_array(image, (4.0, 2.5, 2.0), options) for m in (theirs, ours))
        assert found.probabilities is not None
        assert due.probabilities is not None
        assert np.array_equal(found.classes, due.classes)
        assert np.abs(found.probabilities - due.probabilities).max() < 1e-5


def test_an_exported_file_and_a_bundle_with_a_graph_are_loaded(
    graph: bytes, tmp_path: Path
) -> None:
    manifest, weights = manifest_and_weights(ORGANS, mirror=(0, 2))
    write_bundle(tmp_path / "m.medseg", manifest, weights, graph=graph)
    (tmp_path / "m.onnx").write_bytes(graph)
    image = noise(5, 8, 9)
    due = model(ORGANS).predict(image, spacing=(5.0, 2.0, 2.0))
    for name in ("m.medseg", "m.onnx"):
        loaded = medseg.load(tmp_path / name, engine="onnx")
        assert isinstance(loaded, OnnxVolumeModel)
        assert np.array_equal(loaded.predict(image, spacing=(5.0, 2.0, 2.0)), due)


def test_a_graph_of_another_window_is_refused(graph: bytes, tmp_path: Path) -> None:
    manifest, weights = manifest_and_weights(ORGANS, mirror=(0, 2), patch=(4, 6, 10))
    write_bundle(tmp_path / "m.medseg", manifest, weights, graph=graph)
    with pytest.raises(ModelError, match="that of another model \\(volume differs"):
        medseg.load(tmp_path / "m.medseg", engine="onnx")
    with pytest.raises(ModelError, match="takes window tensor"):
        OnnxVolumeModel(manifest, graph)


def test_a_graph_that_reads_other_files_is_refused(graph: bytes, tmp_path: Path) -> None:
    proto = onnx.load_model_from_string(graph)
    tensor = proto.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(ModelError, match="data lie in another file"):
        OnnxVolumeModel(model(ORGANS).manifest, proto.SerializeToString())


def test_memory_is_not_promised(exported: OnnxVolumeModel, tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", noise(8, 9, 5))
    with pytest.raises(ModelError, match="--max-ram"):
        exported.predict(path, max_ram="2GB")


def test_a_file_is_predicted_without_pytorch(graph: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(graph)
    path = save_nifti(tmp_path / "a.nii.gz", noise(13, 11, 6))
    with_torch = command("predict", tmp_path / "m.onnx", path, "-o", tmp_path / "with")
    assert with_torch.code == 0, with_torch.message
    (tmp_path / "torch.py").write_text("raise ImportError('there is no PyTorch here')")
    ran = subprocess.run(
        [
            sys.executable, "-m", "medseg", "predict", tmp_path / "m.onnx", path,
            "-o", tmp_path / "without", "--overlay", "--probabilities",
        ],
        capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "a.nii.gz" in left_in(tmp_path / "without")
    masks = [(tmp_path / name / "a.nii.gz").read_bytes() for name in ("with", "without")]
    assert masks[0] == masks[1]


def test_the_window_is_what_the_manifest_says(exported: OnnxVolumeModel) -> None:
    assert exported.settings.patch == PATCH
    assert exported.logits(noise(1, 1, *PATCH)).shape == (1, len(ORGANS), *PATCH)
