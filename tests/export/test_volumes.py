"""Models of volumes, exported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import medseg
from commands import left_in
from commands import medseg as command
from inference.volumes.builders import PATCH, SYSTEM, bundle, manifest_and_weights, model
from medseg.errors import MedsegError, ModelError
from medseg.export.exporter import Row, export
from medseg.export.measure import Cost
from medseg.export.parity import check_windows, synthetic_volume
from medseg.inference.bundle import (
    Golden,
    read_golden,
    read_manifest,
    stored_golden,
    write_bundle,
)
from medseg.inference.volumes.runtime import OnnxVolumeModel

# What measures starts two processes; tests/export/test_measure.py has it.
COST = Cost(1.0, 1.0, 100.0)


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.export.volumes.measure", lambda *_, **__: COST)


def with_golden(path: Path, case: Golden) -> Path:
    manifest, weights = manifest_and_weights()
    manifest = manifest.model_copy(update={"golden": stored_golden([case])})
    write_bundle(path, manifest, weights, card="# Card", golden=[case])
    return path


@pytest.mark.usefixtures("unmeasured")
def test_an_exported_bundle_keeps_all_it_had_and_gives_its_masks(tmp_path: Path) -> None:
    case = synthetic_volume(model(), PATCH, seed=3)
    source = with_golden(tmp_path / "m.medseg", case)
    done = export(source, tmp_path / "out.medseg", format="onnx", system=SYSTEM)
    assert done.proof == "1 golden case of the model and on noise of eight windows"
    assert done.rows[1] == Row("ONNX Runtime, fp32", done.rows[1].size_mb, COST, None)
    (kept,) = read_golden(tmp_path / "out.medseg")
    assert np.array_equal(kept.image, case.image)
    loaded = medseg.load(tmp_path / "out.medseg", engine="onnx")
    assert isinstance(loaded, OnnxVolumeModel)
    assert np.array_equal(loaded.predict_array(case.image, case.spacing).classes, case.classes)


@pytest.mark.usefixtures("unmeasured")
def test_a_file_that_does_not_give_the_golden_masks_is_not_written(tmp_path: Path) -> None:
    case = synthetic_volume(model(), PATCH, seed=3)
    wrong = replace(case, classes=(case.classes + 1) % 3)
    source = with_golden(tmp_path / "m.medseg", wrong)
    with pytest.raises(ModelError, match=r"192 of 192 voxels of case 0"):
        export(source, tmp_path / "out.onnx", format="onnx", system=SYSTEM)
    assert left_in(tmp_path) == {"m.medseg"}


def test_windows_that_are_put_together_otherwise_are_noticed() -> None:
    reference, other = model(), model()
    check_windows(other, reference, "m.onnx")
    other.settings = other.settings.model_copy(update={"overlap": 0.8})
    with pytest.raises(ModelError, match=r"a volume of 6 x 9 x 12 voxels differ"):
        check_windows(other, reference, "m.onnx")


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"format": "openvino"}, "exported to ONNX only"),
        ({"format": "torchscript"}, "exported to ONNX only"),
        ({"format": "web"}, "exported to ONNX only"),
        ({"format": "onnx", "data": "."}, "--data: it is for models of pictures"),
    ],
)
def test_what_is_not_done_with_volumes_is_said(
    options: dict[str, str], found: str, tmp_path: Path
) -> None:
    names = {"openvino": "m.xml", "torchscript": "m.pt", "web": "page", "onnx": "m.onnx"}
    source = bundle(tmp_path / "m.medseg")
    with pytest.raises(MedsegError, match=found):
        export(source, tmp_path / names[options["format"]], system=SYSTEM, **options)


def test_the_command_says_what_it_measured(tmp_path: Path) -> None:
    source = bundle(tmp_path / "m.medseg")
    ran = command("export", source, "-o", tmp_path / "m.onnx", "--system", SYSTEM)
    assert ran.code == 0, ran.message
    assert "Masks compared on noise of one and of eight windows" in ran.out
    assert "one window of a volume (4 x 6 x 8 voxels)" in ran.out
    assert "The graph takes one window" in (tmp_path / "m.onnx.md").read_text()


@pytest.mark.usefixtures("unmeasured")
def test_a_pruned_network_answers_its_golden_cases_by_itself(tmp_path: Path) -> None:
    options = {"dims": 3, "widths": [4, 6, 8]}
    manifest, weights = manifest_and_weights(system="unetpp", options=options)
    case = Golden(synthetic_volume(model(), PATCH, seed=3).image, np.zeros(PATCH, np.uint8), None)
    case = replace(case, spacing=(5.0, 2.0, 2.0))
    manifest = manifest.model_copy(update={"golden": stored_golden([case])})
    write_bundle(tmp_path / "m.medseg", manifest, weights, golden=[case])
    export(tmp_path / "m.medseg", tmp_path / "out.medseg", format="onnx", depth=1)
    pruned = medseg.load(tmp_path / "m.medseg", device="cpu", depth=1)
    (kept,) = read_golden(tmp_path / "out.medseg")
    due = pruned.predict(kept.image, spacing=kept.spacing)  # type: ignore[call-arg]
    values = np.array([label.value for label in pruned.labels.labels])
    assert np.array_equal(values[kept.classes], due)
    assert read_manifest(tmp_path / "out.medseg").graph_sha256 is not None
