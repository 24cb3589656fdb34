"""Bundles made to harm: nothing but a ModelError comes of them."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import medseg
from medseg.errors import ModelError
from medseg.inference.bundle import (
    CARD,
    GRAPH,
    MANIFEST,
    WEIGHTS,
    read_bundle,
    read_card,
    read_golden,
    read_graph,
    read_manifest,
)
from medseg.inference.predictor import Predictor

from .builders import ORGANS, manifest_and_weights

MANIFEST_OF, WEIGHTS_OF = manifest_and_weights(ORGANS, size=16)
VALUES: dict[str, Any] = MANIFEST_OF.model_dump(mode="json")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def members(values: Any = VALUES, weights: bytes = WEIGHTS_OF, **more: bytes) -> dict[str, bytes]:
    text = values if isinstance(values, bytes) else json.dumps(values).encode()
    return {MANIFEST: text, WEIGHTS: weights, **more}


def write(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return path


def changed(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(VALUES), **changes}


def with_golden(image: bytes, mask: bytes) -> dict[str, bytes]:
    """Members with one golden case, whose hashes are right."""
    case = {"name": "0", "image_sha256": sha256(image), "mask_sha256": sha256(mask)}
    return members(changed(golden=[case]), **{"golden/0.npy": image, "golden/0.mask.npy": mask})


def npy(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def npy_header(header: str, data: bytes = b"", version: int = 1) -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(text)) + text + data


def refuse(path: Path, *readers: Any) -> None:
    for reader in readers:
        with pytest.raises(ModelError, match=r"\.medseg: "):
            reader(path)


READERS = (read_manifest, read_bundle, read_card, read_golden, read_graph, medseg.load)


def paths_into(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for key, each in inner:
        yield from paths_into(each, (*at, key))


PLACES = [*paths_into(VALUES)][1:]
NASTY = st.sampled_from(
    [
        None, True, 0, -1, 2, 10**6, 10**30, -(10**30), 0.0, -0.5, 1e308, 5e-324, "", "x", "../..",
        "\x1b[2J", "\ud800", "a" * 10_000, [], [[]], {}, {"": None}, [0] * 3, [1e300] * 3,
        [65_536] * 8, [-1, 2], {"data": 5}, {"data": {"max_megapixels": "many"}}, {"seen": 5},
        {"data": {"max_megapixels": "5"}}, {"data": {"max_megapixels": 1e308}}, {"seen": [[]]},
    ]
)  # fmt: skip


@given(place=st.sampled_from(PLACES), value=NASTY)
@settings(deadline=None, max_examples=80)
def test_a_manifest_with_any_value_changed_is_refused_or_works(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[Any, ...], value: Any
) -> None:
    values = copy.deepcopy(VALUES)
    inside = values
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    path = write(tmp_path_factory.getbasetemp() / "m.medseg", members(values))
    refusals = []
    model = None
    for reader in READERS:
        try:
            model = reader(path)
        except ModelError as error:
            refusals.append(str(error))
    assert all(text.isprintable() for text in refusals)
    if refusals:
        return
    assert isinstance(model, Predictor)
    image = np.zeros((8, 9, model.manifest.preprocessing.channels), np.uint8)
    assert model.predict(image).shape[:2] == (8, 9)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize("key", ["temperature", "threshold", "scores", "recipe", "network", "data"])
def test_what_is_no_number_is_refused(tmp_path: Path, key: str, number: str) -> None:
    value = {"x": "@"} if isinstance(VALUES[key], dict) else "@"
    text = json.dumps(changed(**{key: value})).replace('"@"', number)
    refuse(write(tmp_path / "m.medseg", members(text.encode())), read_manifest)


@pytest.mark.parametrize("temperature", [0, -1, 0.049, 20.1, "1", None])
def test_a_temperature_out_of_bounds_is_refused(tmp_path: Path, temperature: Any) -> None:
    values = changed(temperature=temperature)
    path = write(tmp_path / "m.medseg", members(values))
    if temperature == "1":
        assert read_manifest(path).temperature == 1
    else:
        refuse(path, read_manifest)


@pytest.mark.parametrize(
    "deep", [b"[" * 500_000, b'{"a":' * 500_000, b'{"recipe":' + b"[" * 17 + b"]" * 17 + b"}"]
)
def test_deep_json_is_refused(tmp_path: Path, deep: bytes) -> None:
    refuse(write(tmp_path / "m.medseg", members(deep)), *READERS)


@pytest.mark.parametrize("text", [b"{},", b'"",', b"0,"])
def test_json_that_takes_more_memory_than_its_text_is_refused(tmp_path: Path, text: bytes) -> None:
    values = json.dumps(changed(recipe="@")).encode()
    many = b"[" + text * 2_500_000 + b"0]"
    path = write(tmp_path / "m.medseg", members(values.replace(b'"@"', b'{"x": ' + many + b"}")))
    with pytest.raises(ModelError, match="too many values"):
        read_manifest(path)


def test_names_that_lead_elsewhere_and_links_write_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    path = tmp_path / "inner" / "m.medseg"
    link = zipfile.ZipInfo("golden/0.npy")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members().items():
            archive.writestr(zipfile.ZipInfo(name), data)
        archive.writestr(link, "/etc/passwd")
        for name in ("../out", "/tmp/medseg-out", "a/../../out", "C:\\out", "..\\out", "nul\0.txt"):
            archive.writestr(zipfile.ZipInfo(name), b"evil")
    for reader in READERS:
        reader(path)
    assert [p.name for p in tmp_path.rglob("*")] == ["inner", "m.medseg"]


def test_a_link_in_place_of_a_member_is_read_as_the_bytes_it_is(tmp_path: Path) -> None:
    path = tmp_path / "m.medseg"
    link = zipfile.ZipInfo(WEIGHTS)
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(MANIFEST), json.dumps(VALUES))
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ModelError, match="do not match their hash"):
        read_bundle(path)


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS, "other"])
def test_two_members_of_one_name_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.medseg"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")
        for each, data in [*members(other=b"").items(), (name, members(other=b"")[name])]:
            archive.writestr(zipfile.ZipInfo(each), data)
    with pytest.raises(ModelError, match="one name"):
        read_manifest(path)


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS, CARD, "other"])
def test_any_compressed_member_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.medseg"
    with zipfile.ZipFile(path, "w") as archive:
        for each, data in members(**{CARD: b"card", "other": b"x"}).items():
            kind = zipfile.ZIP_DEFLATED if each == name else zipfile.ZIP_STORED
            archive.writestr(zipfile.ZipInfo(each), data, kind)
    with pytest.raises(ModelError, match=f"{name} is compressed"):
        read_manifest(path)


def directory_entry(name: bytes, *, size: int, packed: int, at: int, extra: bytes = b"") -> bytes:
    fixed = struct.pack(
        "<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 0, 20, 0, 0, 0, 0, 0, 0, packed, size, len(name),
        len(extra), 0, 0, 0, 0, at,
    )  # fmt: skip
    return fixed + name + extra


def archive_end(count: int, size: int, at: int) -> bytes:
    return struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, size, at, 0)


def local_header(name: bytes, size: int) -> bytes:
    return struct.pack(
        "<4s2B4HL2L2H", b"PK\x03\x04", 20, 0, 0, 0, 0, 0, 0, size, size, len(name), 0
    ) + name  # fmt: skip


def raw_archive(path: Path, entries: bytes, *, count: int = 2, body: bytes = b"") -> Path:
    path.write_bytes(body + entries + archive_end(count, len(entries), len(body)))
    return path


LIES = {
    "larger than the file": directory_entry(MANIFEST.encode(), size=2**31, packed=2**31, at=0),
    "other sizes": directory_entry(MANIFEST.encode(), size=10**9, packed=10, at=0),
    "beyond the end": directory_entry(MANIFEST.encode(), size=10, packed=10, at=2**31),
    "zip64 of 2**62 bytes": directory_entry(
        MANIFEST.encode(), size=2**32 - 1, packed=2**32 - 1, at=0,
        extra=struct.pack("<2H2Q", 1, 16, 2**62, 2**62),
    ),
    "zip64 cut off": directory_entry(
        MANIFEST.encode(), size=2**32 - 1, packed=2**32 - 1, at=0, extra=struct.pack("<2H", 1, 16)
    ),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_directory_that_lies_is_refused(tmp_path: Path, lie: str) -> None:
    entries = LIES[lie] + directory_entry(WEIGHTS.encode(), size=4, packed=4, at=0)
    body = local_header(MANIFEST.encode(), 10) + b"0123456789"
    refuse(raw_archive(tmp_path / "m.medseg", entries, body=body), *READERS)


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    body = local_header(b"x", 1000) + bytes(1000)
    entries = b"".join(directory_entry(b"%d" % i, size=1000, packed=1000, at=0) for i in range(900))
    path = raw_archive(tmp_path / "m.medseg", entries, count=900, body=body)
    with pytest.raises(ModelError, match="larger than the file"):
        read_manifest(path)


def test_a_golden_case_named_twice_is_refused(tmp_path: Path) -> None:
    case = {"name": "0", "image_sha256": "", "mask_sha256": ""}
    refuse(write(tmp_path / "m.medseg", members(changed(golden=[case, case]))), read_golden)


IMAGE, MASK = npy(np.zeros((4, 5, 3), np.uint8)), npy(np.zeros((4, 5), np.uint8))


def test_a_golden_case_that_is_right_is_read(tmp_path: Path) -> None:
    (case,) = read_golden(write(tmp_path / "m.medseg", with_golden(IMAGE, MASK)))
    assert case.image.shape == (4, 5, 3)
    assert case.classes.shape == (4, 5)


UINT8 = "{'descr': '|u1', 'fortran_order': False, 'shape': "
ARRAYS = {
    "nothing": b"",
    "no npy": b"x" * 200,
    "a pickle": npy(np.array([[[{}]]], dtype=object)),
    "a pickle in disguise": npy_header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"),
    "floats": npy(np.zeros((4, 5, 3))),
    "grey": npy(np.zeros((4, 5, 1), np.uint8)),
    "flat": npy(np.zeros((4, 15), np.uint8)),
    "empty": npy(np.zeros((0, 5, 3), np.uint8)),
    "a terabyte": npy_header(f"{UINT8}(1000000, 1000000, 3)}}"),
    "negative": npy_header(f"{UINT8}(-1, -60, 1)}}", bytes(60)),
    "text as shape": npy_header(f"{UINT8}'abc'}}", bytes(60)),
    "an expression": npy_header(f"{UINT8}(__import__('os').getpid(), 5, 3)}}", bytes(60)),
    "not closed": npy_header(f"{UINT8}" + "(" * 60, bytes(60)),
    "another version": npy_header(f"{UINT8}(4, 5, 3)}}", bytes(60), version=3),
    "cut off": IMAGE[:-1],
    "too long": IMAGE + b"0",
    "of another size": npy(np.zeros((5, 4, 3), np.uint8)),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_an_array_that_is_no_image_is_refused(tmp_path: Path, kind: str) -> None:
    refuse(write(tmp_path / "m.medseg", with_golden(ARRAYS[kind], MASK)), read_golden)


@pytest.mark.parametrize(
    "mask", [IMAGE, npy(np.zeros((4, 4), np.uint8)), npy(np.full((4, 5), 3, np.uint8))]
)
def test_a_golden_mask_that_does_not_fit_is_refused(tmp_path: Path, mask: bytes) -> None:
    refuse(write(tmp_path / "m.medseg", with_golden(IMAGE, mask)), read_golden)


def test_golden_bytes_that_are_not_there_or_changed_are_refused(tmp_path: Path) -> None:
    right = with_golden(IMAGE, MASK)
    refuse(write(tmp_path / "a.medseg", {**right, "golden/0.npy": MASK}), read_golden)
    del right["golden/0.mask.npy"]
    refuse(write(tmp_path / "b.medseg", right), read_golden)


def test_a_graph_or_card_that_is_not_what_it_should_be_is_refused(tmp_path: Path) -> None:
    values = changed(graph_sha256=sha256(b"graph"))
    refuse(write(tmp_path / "a.medseg", members(values)), read_graph)
    refuse(write(tmp_path / "b.medseg", members(values, **{GRAPH: b"other"})), read_graph)
    refuse(write(tmp_path / "c.medseg", members(**{CARD: b"\xff\xfe"})), read_card)


def tensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def one(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


SAFETENSORS = {
    "nothing": b"",
    "a pickle": b"\x80\x04cposix\nsystem\n(S'true'\ntR.",
    "huge header": tensors(b"{}", length=2**63),
    "header beyond the end": tensors(b"{}", length=1000),
    "no json": tensors(b"{{{{"),
    "deep json": tensors(b'{"a":' * 100_000),
    "overlap": tensors({"a": one("F32", [2], 0, 8), "b": one("F32", [2], 4, 12)}, bytes(12)),
    "gap": tensors({"a": one("F32", [1], 0, 4), "b": one("F32", [1], 8, 12)}, bytes(12)),
    "beyond the end": tensors({"a": one("F32", [10**9], 0, 4 * 10**9)}, bytes(8)),
    "shape that overflows": tensors({"a": one("F32", [2**62, 4], 0, 8)}, bytes(8)),
    "negative": tensors({"a": one("F32", [-2], 0, 8)}, bytes(8)),
    "unknown type": tensors({"a": one("O", [1], 0, 8)}, bytes(8)),
    "escapes": tensors({"\x1b[2J": one("F32", [1], 0, 4)}, bytes(4)),
    "no tensors": tensors({}),
}


@pytest.mark.parametrize("kind", SAFETENSORS)
def test_weights_that_lie_are_refused(tmp_path: Path, kind: str) -> None:
    weights = SAFETENSORS[kind]
    values = changed(weights_sha256=sha256(weights))
    path = write(tmp_path / "m.medseg", members(values, weights))
    with pytest.raises(ModelError, match="do not fit its network") as refused:
        medseg.load(path)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("system", ["os", "../evil", "evil.py", "./evil.py", "card", "", "\x1b[2J"])
def test_no_code_runs_because_a_bundle_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('ran', 'w')")
    refuse(write(tmp_path / "m.medseg", members(changed(system=system))), medseg.load)
    assert not (tmp_path / "ran").exists()


HUGE_OPTIONS: list[dict[str, Any]] = [
    {"widths": [65_536] * 3, "depths": [1, 1], "kernel": 3, "expansion": 2},
    {"widths": [4, 6, 8], "depths": [65_536, 65_536], "kernel": 3, "expansion": 2},
    {"widths": [4, 6, 8], "depths": [1, 1], "kernel": 65_535, "expansion": 2},
    {"widths": [4, 6, 8], "depths": [1, 1], "kernel": 3, "expansion": 65_536},
    {"widths": [8] * 256, "depths": [65_536] * 255, "kernel": 3, "expansion": 2},
]

# Reads files as they come, each with no more address space than four times its size and 64 MB.
LIMITED = """
import json, resource, sys
from pathlib import Path
import medseg
from medseg.errors import ModelError
from medseg.inference import network
from medseg.inference.bundle import read_card, read_golden, read_graph, read_manifest
import medseg.networks.images.med2d_segnet
for name in sys.argv[1:]:
    path = Path(name)
    for read in (read_manifest, read_card, read_golden, read_graph, medseg.load):
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        room = now + 4 * path.stat().st_size + 64_000_000
        resource.setrlimit(resource.RLIMIT_AS, (room, -1))
        try:
            read(path)
        except ModelError as error:
            print(error)
        else:
            print(path.stem, "was read by", read.__name__)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits and /proc are those of Linux")
def test_memory_stays_within_a_few_times_the_file(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / f"options{index}.medseg", members(changed(network=options)))
        for index, options in enumerate(HUGE_OPTIONS)
    ]
    million = directory_entry(b"m", size=0, packed=0, at=0) * 10**6
    paths += [
        raw_archive(tmp_path / "million.medseg", million, count=65_535),
        write(tmp_path / "deep.medseg", members(b"[" * 10_000_000)),
        write(tmp_path / "wide.medseg", members(b"[" + b"{}," * 4_000_000 + b"{}]")),
        write(tmp_path / "array.medseg", with_golden(ARRAYS["a terabyte"], MASK)),
        write(tmp_path / "tensors.medseg", members(VALUES, SAFETENSORS["beyond the end"])),
    ]
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, *map(str, paths)], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert len(lines) == 5 * len(paths)
    assert "MemoryError" not in ran.stdout
    read = {line for line in lines if "was read by" in line}
    # What golden cases hold is looked at by those who ask for them.
    assert {line for line in read if line.endswith("load")} == {"array was read by load"}
    assert not [line for line in read if line.startswith(("million", "deep", "wide"))]
