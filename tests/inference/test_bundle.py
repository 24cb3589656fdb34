from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.builders import noise
from medseg.errors import ModelError
from medseg.inference.bundle import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    WEIGHTS,
    Bundle,
    Golden,
    Postprocessing,
    find_bundle,
    read_bundle,
    read_card,
    read_golden,
    read_graph,
    read_manifest,
    stored_golden,
    write_bundle,
)
from medseg.inference.predictor import load

from .builders import COLOURS, NETWORK, bundle, manifest_and_weights

SMALL = manifest_and_weights()[0].model_copy(
    update={"weights_sha256": hashlib.sha256(b"weights").hexdigest()}
)


def archive(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def with_changes(path: Path, **changes: Any) -> Path:
    """A bundle whose manifest has other values, or lacks those that are None."""
    values = {**SMALL.model_dump(mode="json"), **changes}
    kept = {key: value for key, value in values.items() if value is not None}
    return archive(path, {MANIFEST: json.dumps(kept).encode(), WEIGHTS: b"weights"})


def test_a_bundle_comes_back(tmp_path: Path) -> None:
    manifest, weights = manifest_and_weights(COLOURS, rgb=True)
    write_bundle(tmp_path / "m.medseg", manifest, weights)
    assert read_bundle(tmp_path / "m.medseg") == Bundle(manifest, weights)
    assert read_manifest(tmp_path / "m.medseg") == manifest


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = bundle(tmp_path / "a.medseg"), bundle(tmp_path / "b.medseg")
    assert first.read_bytes() == second.read_bytes()


def test_the_label_map_comes_back(tmp_path: Path) -> None:
    labels = read_manifest(bundle(tmp_path / "m.medseg", COLOURS, rgb=True)).label_map
    assert dict(zip(labels.names, labels.values, strict=True)) == COLOURS
    assert labels.rgb


GOLDEN = [
    Golden(noise(seed, (7 + seed, 9)), np.full((7 + seed, 9), seed % 2, np.uint8))
    for seed in range(3)
]


def test_card_golden_cases_and_graph_come_back(tmp_path: Path) -> None:
    path = tmp_path / "m.medseg"
    manifest, weights = manifest_and_weights()
    written = write_bundle(path, manifest, weights, card="# Größe", golden=GOLDEN, graph=b"onnx")
    assert read_bundle(path) == Bundle(written, weights)
    assert written.golden == stored_golden(GOLDEN)
    assert read_card(path) == "# Größe"
    assert read_graph(path) == b"onnx"
    for found, case in zip(read_golden(path), GOLDEN, strict=True):
        assert np.array_equal(found.image, case.image)
        assert np.array_equal(found.classes, case.classes)


def test_a_bundle_without_them_says_so(tmp_path: Path) -> None:
    path = bundle(tmp_path / "m.medseg")
    assert (read_card(path), read_golden(path), read_graph(path)) == ("", (), None)


def test_a_bundle_of_the_first_format_is_read_and_predicts(tmp_path: Path) -> None:
    new, weights = manifest_and_weights()
    preprocessing = {"image_size": 32, "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3}
    old = {
        "format": 1,
        "medseg": "0.1.0",
        "system": "med2d-segnet",
        "network": NETWORK,
        "num_classes": 1,
        "labels": [{"name": "background", "value": 0}, {"name": "nucleus", "value": 255}],
        "rgb": False,
        "ignore": None,
        "regions": [],
        "preprocessing": preprocessing,
        "threshold": 0.5,
        "recipe": {"seed": 0, "data": {"max_megapixels": 100.0, "group_pattern": None}},
        "data": {"name": "noise", "cases": {"train": 1, "val": 1, "test": 0}, "seen": ["0" * 16]},
        "scores": {"val_dice": 0.5},
        "parameters": new.parameters,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    path = archive(
        tmp_path / "old.medseg", {MANIFEST: json.dumps(old, indent=1).encode(), WEIGHTS: weights}
    )
    manifest = read_manifest(path)
    assert (manifest.temperature, manifest.postprocessing) == (1.0, Postprocessing())
    assert (read_card(path), read_golden(path), read_graph(path)) == ("", (), None)
    image = noise(0, (21, 33))
    today = load(bundle(tmp_path / "new.medseg"), device="cpu")
    assert np.array_equal(load(path, device="cpu").predict(image), today.predict(image))


def small_bytes() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(zipfile.ZipInfo(MANIFEST), SMALL.model_dump_json())
        file.writestr(zipfile.ZipInfo(WEIGHTS), b"weights")
    return buffer.getvalue()


WHOLE = small_bytes()


def read_or_refuse(path: Path) -> None:
    try:
        found = read_bundle(path)
    except ModelError:
        return
    assert found == Bundle(SMALL, b"weights")


@given(length=st.integers(0, len(WHOLE) - 1))
@settings(deadline=None, max_examples=60)
def test_a_truncated_bundle_is_refused(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.medseg"
    path.write_bytes(WHOLE[:length])
    with pytest.raises(ModelError):
        read_bundle(path)


@given(place=st.integers(0, len(WHOLE) - 1), flip=st.integers(1, 255))
@settings(deadline=None, max_examples=150)
def test_a_flipped_byte_is_refused_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, place: int, flip: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.medseg"
    data = bytearray(WHOLE)
    data[place] ^= flip
    path.write_bytes(data)
    read_or_refuse(path)


@pytest.mark.parametrize("flip", [0x01, 0x08])
def test_no_byte_of_the_archives_directory_can_be_flipped_unnoticed(
    tmp_path: Path, flip: int
) -> None:
    path = tmp_path / "flipped.medseg"
    for place in range(WHOLE.index(b"PK\x01\x02"), len(WHOLE)):
        data = bytearray(WHOLE)
        data[place] ^= flip
        path.write_bytes(data)
        read_or_refuse(path)


@given(content=st.binary(max_size=200))
@settings(deadline=None, max_examples=50)
def test_any_other_file_is_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.medseg"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"any\.medseg"):
        read_bundle(path)


@pytest.mark.parametrize("members", [{}, {MANIFEST: b"{}"}, {WEIGHTS: b""}, {"other": b""}])
def test_an_archive_without_its_members_is_refused(
    tmp_path: Path, members: dict[str, bytes]
) -> None:
    with pytest.raises(ModelError, match="damaged or not a bundle"):
        read_bundle(archive(tmp_path / "m.medseg", members))


@pytest.mark.parametrize(
    "manifest", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000, b'{"format": 1}']
)
def test_an_unreadable_manifest_is_refused(tmp_path: Path, manifest: bytes) -> None:
    path = archive(tmp_path / "m.medseg", {MANIFEST: manifest, WEIGHTS: b"weights"})
    with pytest.raises(ModelError, match="damaged or not a bundle"):
        read_manifest(path)


def test_weights_that_do_not_match_their_hash_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="do not match their hash"):
        read_bundle(with_changes(tmp_path / "m.medseg", weights_sha256="0" * 64))


def test_a_newer_format_asks_for_an_update(tmp_path: Path) -> None:
    path = with_changes(tmp_path / "m.medseg", format=3, medseg="9.1", new_key="of the future")
    with pytest.raises(ModelError, match=r"format 3, made by medseg 9\.1\. Update medseg"):
        read_manifest(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_compressed_weights_are_refused(tmp_path: Path, compression: int) -> None:
    members = {MANIFEST: SMALL.model_dump_json().encode(), WEIGHTS: b"weights"}
    with pytest.raises(ModelError, match="is compressed"):
        read_manifest(archive(tmp_path / "m.medseg", members, compression))


def test_a_huge_manifest_is_refused_before_it_is_read(tmp_path: Path) -> None:
    members = {MANIFEST: b" " * (MAX_MANIFEST_BYTES + 1), WEIGHTS: b"weights"}
    path = archive(tmp_path / "m.medseg", members)
    with pytest.raises(ModelError, match="has 16000001 bytes"):
        read_manifest(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"system": None},
        {"surprise": 1},
        {"labels": [{"name": "background", "value": 0}]},
        {"num_classes": 0},
        {"num_classes": 3},
        {"threshold": 0},
        {"preprocessing": {"image_size": 32, "channels": 0, "mean": [], "std": []}},
        {"preprocessing": {"image_size": 32, "channels": 3, "mean": [0], "std": [1, 1, 1]}},
        {"preprocessing": {"image_size": 32, "channels": 1, "mean": [0], "std": [0]}},
        {"preprocessing": {"image_size": 10**6, "channels": 1, "mean": [0], "std": [1]}},
        {"volume": {"spacing_mm": None, "patch": [8, 8, 8], "intensity": []}},
        {"volume": {"spacing_mm": None, "patch": [8, 8, 8], "intensity": [{"kind": "zscore"}]}},
        {
            "volume": {
                "spacing_mm": None,
                "patch": [4096] * 3,
                "intensity": [{"kind": "zscore"}] * 3,
            }
        },
        {
            "volume": {
                "spacing_mm": [1, 1, 0],
                "patch": [8] * 3,
                "intensity": [{"kind": "zscore"}] * 3,
            }
        },
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(ModelError, match="damaged or not a bundle"):
        read_manifest(with_changes(tmp_path / "m.medseg", **changes))


def test_other_members_are_ignored_and_nothing_is_extracted(tmp_path: Path) -> None:
    members = {
        "../outside.txt": b"evil",
        "/outside.txt": b"evil",
        MANIFEST: SMALL.model_dump_json().encode(),
        WEIGHTS: b"weights",
    }
    (tmp_path / "inner").mkdir()
    path = archive(tmp_path / "inner" / "m.medseg", members)
    assert read_bundle(path) == Bundle(SMALL, b"weights")
    assert [p.name for p in tmp_path.rglob("*")] == ["inner", "m.medseg"]


def test_a_run_folder_names_its_bundle(tmp_path: Path) -> None:
    path = bundle(tmp_path / "model.medseg")
    assert find_bundle(tmp_path) == find_bundle(path) == path


def test_an_unfinished_run_says_how_to_finish_it(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("seed: 1")
    with pytest.raises(ModelError, match=r"has not finished.*--resume"):
        find_bundle(tmp_path)


def test_any_other_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a run"):
        find_bundle(tmp_path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.medseg: there is no such file"):
        read_bundle(tmp_path / "none.medseg")


def test_a_manifest_is_read_without_torch_and_scipy(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from medseg.inference.bundle import read_manifest\n"
        "print(read_manifest(Path(sys.argv[1])).system)\n"
        "print([m for m in ('torch', 'scipy') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, bundle(tmp_path / "m.medseg")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout.split("\n")[:2] == ["med2d-segnet", "[]"]
