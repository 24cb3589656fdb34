from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from commands import medseg
from data.builders import squares
from inference.builders import manifest_and_weights
from medseg.data.case import IGNORE
from medseg.engine.checkpoint import load_checkpoint
from medseg.engine.initial import Origin, carry_over
from medseg.engine.loop import TrainingLoop
from medseg.engine.text_feed import TextFeed
from medseg.inference.bundle import read_manifest
from medseg.methods.method import Batch
from medseg.models import create_model
from networks.language.small import SMALL, published

OPTIONS = (
    "--system", "vlsm-adapter", "--image-size", "16", "--batch-size", "4", "--device", "cpu",
    "--set", "network.size=tiny", "--set", "predict.golden=1",
)  # fmt: skip


def feed_of(absent: float = 0.0, *, classes: int = 3) -> TextFeed:
    feed = TextFeed.__new__(TextFeed)
    feed.names = tuple(f"class {k}" for k in range(1, classes + 1))
    feed.absent = absent
    return feed


def drawn(feed: TextFeed, mask: list[int], count: int = 400) -> Counter[int]:
    pixels = np.array(mask, np.uint8)
    return Counter(feed._wanted(pixels, np.random.default_rng([0, k])) for k in range(count))


def test_any_class_that_the_mask_shows_is_asked_for_alike() -> None:
    counts = drawn(feed_of(), [0, 1, 3, 3, IGNORE])
    assert sorted(counts) == [1, 3]
    assert min(counts.values()) > 160


def test_of_an_empty_mask_any_class_is_asked_for() -> None:
    assert sorted(drawn(feed_of(), [0, IGNORE])) == [1, 2, 3]


def test_a_share_is_asked_for_what_is_not_there() -> None:
    counts = drawn(feed_of(0.25), [0, 1, 3])
    assert counts[2] / 400 == pytest.approx(0.25, abs=0.06)
    assert sorted(drawn(feed_of(0.25), [1, 2, 3])) == [1, 2, 3]


def data_of(folder: Path) -> Path:
    data = squares(folder / "data", 12, classes=3)
    sentences = {"classes": {"class_1": ["a dark square", "grey"], "class_2": ["a light square"]}}
    (data / "prompts.json").write_text(json.dumps(sentences))
    return data


def test_a_run_resumes_to_the_bits_of_one_that_was_never_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = data_of(tmp_path)
    taken, original, said = 0, TrainingLoop._step, Counter[str]()

    def step(self: TrainingLoop, batch: Batch) -> dict[str, float]:
        nonlocal taken
        taken += 1
        self.stop_asked = taken == 3
        said.update(batch["text"])
        assert set(batch["mask"].unique().tolist()) <= {0, 1}
        return original(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_step", step)
        stopped = medseg("train", data, "-o", tmp_path / "stopped", "--epochs", 2, *OPTIONS)
        assert "--resume" in stopped.message
    assert set(said) == {"a dark square", "grey", "a light square"}
    assert medseg("train", data, "-o", tmp_path / "stopped", "--resume").code == 0
    whole = medseg("train", data, "-o", tmp_path / "whole", "--epochs", 2, *OPTIONS)
    assert f"3 sentences of {data / 'prompts.json'}" in whole.message
    assert "746,050 parameters, 739,713 of them trained" in whole.message
    (ours, _), (theirs, _) = (
        load_checkpoint(tmp_path / name / "checkpoints" / "last.safetensors")
        for name in ("stopped", "whole")
    )
    for group, named in theirs.items():
        for name, value in named.items():
            assert torch.equal(ours[group][name], value), f"{group}/{name}"
    manifest = read_manifest(tmp_path / "whole" / "model.medseg")
    assert manifest.sentences == ("a dark square", "a light square")
    assert [label.name for label in manifest.labels] == ["background", "class_1", "class_2"]
    assert len(manifest.golden) == 1

    (data / "prompts.json").unlink()
    changed = medseg("train", data, "-o", tmp_path / "whole", "--resume")
    assert changed.code != 0
    assert "the data has changed" in changed.message


def test_weights_that_are_not_there_are_refused_before_any_data_is_read() -> None:
    missing = medseg(
        "train", "nowhere", "--system", "vlsm-adapter", "--set", "network.weights=gone"
    )
    assert missing.code == 2
    assert "network.weights=gone: there is no such folder" in missing.message


def test_a_file_of_sentences_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    data = squares(tmp_path / "data", 12)
    options = (*OPTIONS, "--set", "method_options.sentences=gone.json")
    missing = medseg("train", data, "-o", tmp_path / "run", "--epochs", 1, *options)
    assert missing.code == 2
    assert "gone.json: it cannot be read" in missing.message


def test_a_model_that_training_starts_from_brings_its_vocabulary(tmp_path: Path) -> None:
    place = published(tmp_path / "published")
    before = create_model("vlsm-adapter", weights=str(place), width=3)
    manifest, _ = manifest_and_weights()
    manifest = manifest.model_copy(update={"prompts": ("text",), "num_classes": 3})
    network = create_model("vlsm-adapter", size=SMALL, width=3)
    assert network.words.numbers("a polyp") != before.words.numbers("a polyp")  # type: ignore[operator,union-attr]
    carried = carry_over(
        network,
        Origin("before", manifest, before.state_dict()),
        system="vlsm-adapter",
        options={"size": SMALL, "width": 3},
        in_channels=3,
        num_classes=1,
        classes=("background", "nucleus"),
    )
    assert not carried.fresh
    assert network.words.numbers("a polyp") == before.words.numbers("a polyp")  # type: ignore[operator,union-attr]
