from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.data.cache import CacheSettings, CaseCache, cache_key, open_cache
from medseg.data.cache_folder import make_room
from medseg.data.case import Case, Label, LabelMap
from medseg.data.labels import encode_mask
from medseg.data.preprocess import resize_image, resize_mask, to_channels
from medseg.data.source import File
from medseg.errors import DataError, MedsegError

from .builders import disk, noise, save

LABELS = LabelMap((Label("background", 0), Label("nucleus", 255)))
GIGABYTE = 10**9


def make_cases(root: Path, count: int = 4) -> list[Case]:
    """Cases of different sizes, grey and colour in turn."""
    cases = []
    for i in range(count):
        size = (16 + 3 * i, 24 - 2 * i)
        image = save(root / "images" / f"{i}.png", noise(i, size, channels=1 if i % 2 else 3))
        mask = save(root / "masks" / f"{i}.png", disk(size, radius=3 + i))
        cases.append(Case(str(i), File(image), File(mask)))
    return cases


def settings_of(size: int = 16, channels: int = 3) -> CacheSettings:
    return CacheSettings(
        image_size=size, channels=channels, labels=LABELS, snap="auto", max_pixels=10**6
    )


def open_(cases: list[Case], folder: Path, size: int = 16, limit: int = GIGABYTE) -> CaseCache:
    hashes = [case.id for case in cases]
    return open_cache(cases, hashes, settings_of(size), folder, limit=limit)


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@given(size=st.integers(1, 40), channels=st.sampled_from([1, 3]))
@settings(deadline=None, max_examples=15)
def test_a_cache_holds_what_decoding_and_resizing_give(
    tmp_path_factory: pytest.TempPathFactory, size: int, channels: int
) -> None:
    root = tmp_path_factory.mktemp("data")
    cases = make_cases(root)
    settings_ = settings_of(size, channels)
    cache = open_cache(cases, list("abcd"), settings_, root / "cache", limit=GIGABYTE)
    assert cache.ids == ("0", "1", "2", "3")
    for case, image, mask in zip(cases, cache.images, cache.masks[range(4)], strict=True):
        assert case.mask is not None
        direct = resize_image(to_channels(case.image.read_image(), channels), size)
        assert np.array_equal(image, np.rint(direct))
        assert np.array_equal(mask, resize_mask(encode_mask(case.mask.read_mask(), LABELS), size))


def test_a_finished_cache_is_used_again(tmp_path: Path) -> None:
    cases = make_cases(tmp_path)
    first = open_(cases, tmp_path / "cache")
    shutil.rmtree(tmp_path / "images")
    second = open_(cases, tmp_path / "cache")
    assert (first.reused, second.reused) == (False, True)
    assert np.array_equal(first.images, second.images)


def test_the_arrays_cannot_be_written(tmp_path: Path) -> None:
    cache = open_(make_cases(tmp_path), tmp_path / "cache")
    with pytest.raises(ValueError, match="read-only"):
        cache.images[0] = 0


def test_rows_are_the_places_of_cases(tmp_path: Path) -> None:
    cache = open_(make_cases(tmp_path), tmp_path / "cache")
    assert cache.rows(["2", "0"]).tolist() == [2, 0]


def test_a_killed_build_is_ignored_and_leaves_no_cache(tmp_path: Path) -> None:
    cases = make_cases(tmp_path)
    whole = open_(cases, tmp_path / "whole")
    part = tmp_path / "cache" / f"{whole.folder.name}.part"
    part.mkdir(parents=True)
    (part / "images.npy").write_bytes(b"half an array")
    cache = open_(cases, tmp_path / "cache")
    assert not cache.reused
    assert np.array_equal(cache.images, whole.images)
    assert entries(tmp_path / "cache") == [whole.folder.name]


BUILD = """
import sys, time
from pathlib import Path
from medseg.data import cache as module
from data.test_cache import make_cases, open_

module._NOTE_EVERY = 2
root, folder, marks = map(Path, sys.argv[1:])
decode = module.resize_mask
def slowly(mask, size):
    (marks / str(time.monotonic_ns())).touch()
    time.sleep(0.05)
    return decode(mask, size)
module.resize_mask = slowly
print(open_(make_cases(root, 12), folder).reused)
"""


def build(root: Path, folder: Path) -> subprocess.Popen[str]:
    """Build the cache of twelve cases in another process, one file in ``root`` a decoded case."""
    marks = root / "marks"
    marks.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(root), str(folder), str(marks)],
        stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_build_is_gone_on_with(tmp_path: Path) -> None:
    killed, folder = build(tmp_path / "data", tmp_path / "cache"), tmp_path / "cache"
    while not list(folder.glob("*.part/progress.json")):
        assert killed.poll() is None
        time.sleep(0.002)
    killed.kill()
    killed.communicate()
    (note,) = folder.glob("*.part/progress.json")
    done = json.loads(note.read_text())["cases"]
    marks = tmp_path / "data" / "marks"
    before = len(list(marks.iterdir()))
    assert build(tmp_path / "data", folder).communicate()[0].strip() == "False"
    assert len(list(marks.iterdir())) - before == 12 - done < 12
    cases = make_cases(tmp_path / "data", 12)
    again, whole = open_(cases, folder), open_(cases, tmp_path / "whole")
    assert again.reused
    assert np.array_equal(again.images, whole.images)
    assert np.array_equal(again.masks[range(12)], whole.masks[range(12)])
    assert np.array_equal(again.sums, whole.sums)


def test_two_processes_build_a_cache_once(tmp_path: Path) -> None:
    cases = make_cases(tmp_path / "data", 12)
    both = [build(tmp_path / "data", tmp_path / "cache") for _ in range(2)]
    assert sorted(each.communicate()[0].strip() for each in both) == ["False", "True"]
    assert len(list((tmp_path / "data" / "marks").iterdir())) == 12
    assert open_(cases, tmp_path / "cache").reused


def test_who_waits_for_another_build_is_told(tmp_path: Path) -> None:
    cases, folder = make_cases(tmp_path), tmp_path / "cache"
    key = cache_key(cases, [case.id for case in cases], settings_of())
    folder.mkdir()
    lock = FileLock(folder / f"{key}.lock", thread_local=False)
    lock.acquire()
    told: list[str] = []

    def waiting() -> None:
        told.append("waiting")
        lock.release()

    hashes = [case.id for case in cases]
    open_cache(cases, hashes, settings_of(), folder, limit=GIGABYTE, waiting=waiting)
    assert told == ["waiting"]


def test_a_failed_build_leaves_nothing_and_names_the_file(tmp_path: Path) -> None:
    cases = make_cases(tmp_path)
    cases[2].image.path.write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"2\.png"):
        open_(cases, tmp_path / "cache")
    assert entries(tmp_path / "cache") == []


def test_an_unexpected_value_names_the_mask_file(tmp_path: Path) -> None:
    cases = make_cases(tmp_path)
    assert cases[1].mask is not None
    save(cases[1].mask.path, disk(value=77))
    with pytest.raises(DataError, match=r"masks.1\.png: .*77"):
        open_(cases, tmp_path / "cache")


@pytest.mark.parametrize("damaged", ["images.npy", "masks.bin", "offsets.npy", "cases.json"])
@pytest.mark.parametrize("content", [None, b"", b"half"])
def test_a_damaged_cache_is_built_again(
    tmp_path: Path, damaged: str, content: bytes | None
) -> None:
    cases = make_cases(tmp_path)
    first = open_(cases, tmp_path / "cache")
    expected = first.images.copy()
    path = first.folder / damaged
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    again = open_(cases, tmp_path / "cache")
    assert not again.reused
    assert np.array_equal(again.images, expected)
    assert entries(tmp_path / "cache") == [first.folder.name]


def test_the_key_changes_with_content_order_and_settings(tmp_path: Path) -> None:
    cases = [Case(name, File(tmp_path / name), File(tmp_path / name)) for name in "ab"]
    other = CacheSettings(
        image_size=16,
        channels=3,
        labels=LabelMap((Label("background", 0), Label("nucleus", 1))),
        snap="auto",
        max_pixels=10**6,
    )
    keys = {
        cache_key(cases, ["1", "2"], settings_of()),
        cache_key(cases, ["2", "1"], settings_of()),
        cache_key(cases[::-1], ["2", "1"], settings_of()),
        cache_key(cases[:1], ["1"], settings_of()),
        cache_key(cases, ["1", "2"], settings_of(size=17)),
        cache_key(cases, ["1", "2"], settings_of(channels=1)),
        cache_key(cases, ["1", "2"], other),
    }
    assert len(keys) == 7


def test_a_cache_larger_than_the_limit_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    with pytest.raises(MedsegError, match=r"--cache-limit: .*Raise the limit"):
        open_(make_cases(tmp_path), tmp_path / "cache", limit=4 * 16 * 16 * 3)
    assert not (tmp_path / "cache").exists()


def test_the_least_recently_used_cache_makes_room(tmp_path: Path) -> None:
    cases, folder = make_cases(tmp_path), tmp_path / "cache"
    caches = {size: open_(cases, folder, size).folder for size in (16, 17, 18)}
    for age, size in enumerate((18, 16, 17)):
        long_ago = time.time() - 1000 + 10 * age
        os.utime(caches[size] / "cases.json", (long_ago, long_ago))
    open_(cases, folder, 18)
    needed = 4 * 19 * 19 * 3 + 4 * 19 * 19 // 32
    held = sum(f.stat().st_size for size in (17, 18) for f in caches[size].iterdir())
    newest = open_(cases, folder, 19, limit=held + needed)
    assert entries(folder) == sorted(p.name for p in (caches[17], caches[18], newest.folder))


def test_only_abandoned_builds_are_cleared_away(tmp_path: Path) -> None:
    for name, age in (("old.part", 90_000), ("young.part", 80_000)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    make_room(tmp_path, 1, GIGABYTE)
    assert entries(tmp_path) == ["young.part"]


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(MedsegError, match="--cache-dir"):
        open_(make_cases(tmp_path), tmp_path / "cache")


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_a_full_disk_is_an_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(MedsegError, match="No space left on device"):
        open_(make_cases(tmp_path), tmp_path / "cache")
    assert entries(tmp_path / "cache") == []


@given(seed=st.integers(0, 1000), channels=st.sampled_from([1, 3]), top=st.integers(1, 256))
@settings(deadline=None, max_examples=20)
def test_channel_statistics_agree_with_numpy(
    tmp_path_factory: pytest.TempPathFactory, seed: int, channels: int, top: int
) -> None:
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(seed)
    cases = []
    for i in range(3):
        image = random.integers(0, top, (6, 6, channels), dtype=np.uint8)
        path = save(root / f"{i}.png", image if channels == 3 else image[..., 0])
        mask = save(root / f"{i}_mask.png", disk((6, 6), radius=2))
        cases.append(Case(str(i), File(path), File(mask)))
    cache = open_cache(cases, list("abc"), settings_of(6, channels), root / "c", limit=GIGABYTE)
    mean, std = cache.channel_statistics(np.array([2, 0]))
    chosen = cache.images[[0, 2]] / 255
    assert mean == pytest.approx(chosen.mean((0, 1, 2)))
    assert std == pytest.approx(np.maximum(chosen.std((0, 1, 2)), 1 / 255), abs=1e-9)
    assert cache.channel_statistics(np.array([0, 2])) == (mean, std)
