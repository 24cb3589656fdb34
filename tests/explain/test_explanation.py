from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from data.builders import noise, save
from inference.builders import ORGANS, bundle, manifest_and_weights
from medseg.errors import DataError, MedsegError
from medseg.explain import Explanation, explain
from medseg.explain.scores import Faithfulness
from medseg.explain.target import NothingToExplainError
from medseg.inference.network import Model, load_network

SIZE = (40, 52)


class Gain(nn.Module):
    """A logit per pixel, of a network with a single weight: random weights are its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Conv2d(3, 3, 1, groups=3, bias=False)
        nn.init.ones_(self.scale.weight)

    def forward(self, image: Tensor) -> Tensor:
        return self.scale(image).mean(1, keepdim=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_network(bundle(tmp_path_factory.mktemp("run") / "model.medseg"))


@pytest.fixture(scope="module")
def organs(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_network(bundle(tmp_path_factory.mktemp("run") / "model.medseg", ORGANS))


@pytest.fixture(scope="module")
def explained(model: Model) -> Explanation:
    return explain(model, noise(0, SIZE))


def test_a_map_has_the_size_of_its_image_and_lies_between_0_and_1(explained: Explanation) -> None:
    assert explained.map.shape == explained.region.shape == SIZE
    assert explained.map.dtype == np.float32
    assert explained.map.min() >= 0
    assert explained.map.max() == 1


@pytest.mark.parametrize("method", ["grad-cam++", "integrated-gradients", "occlusion"])
def test_every_method_gives_a_map_with_all_its_scores(organs: Model, method: str) -> None:
    steps = 4 if method in ("integrated-gradients", "occlusion") else None
    row = explain(organs, noise(0, SIZE), method=method, steps=steps, box=(0, 0, 26, 20)).row()
    for name in ("probability", "deletion", "deletion_shuffled", "insertion", "random_correlation"):
        assert 0 <= row[name] <= 1
    assert math.isnan(row["completeness_error"]) == (method != "integrated-gradients")


def test_the_default_is_what_is_predicted(model: Model, explained: Explanation) -> None:
    assert explained.label == "nucleus"
    assert np.array_equal(explained.region, model.predict(noise(0, SIZE)) == 255)
    probabilities = model.predict_probabilities(noise(0, SIZE))[0]
    assert explained.probability == pytest.approx(probabilities[explained.region].mean(), abs=0.05)


def test_the_same_seed_gives_the_same_explanation(model: Model, explained: Explanation) -> None:
    again = explain(model, noise(0, SIZE))
    assert np.array_equal(again.map, explained.map)
    assert str(again.row()) == str(explained.row())
    other = explain(model, noise(0, SIZE), seed=1)
    assert np.array_equal(other.map, explained.map)
    assert other.randomisation != explained.randomisation


def test_explaining_leaves_the_model_alone(model: Model) -> None:
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    mask = model.predict(noise(0, SIZE))
    explain(model, noise(0, SIZE), method="integrated-gradients", steps=2)
    assert all(torch.equal(v, before[name]) for name, v in model.network.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.network.parameters())
    assert np.array_equal(model.predict(noise(0, SIZE)), mask)


def test_an_array_and_its_file_have_the_same_explanation(
    model: Model, explained: Explanation, tmp_path: Path
) -> None:
    save(tmp_path / "a.png", noise(0, SIZE))
    assert np.array_equal(explain(model, tmp_path / "a.png").map, explained.map)


def test_each_class_has_evidence_of_its_own(organs: Model) -> None:
    liver, vein = (explain(organs, noise(0, SIZE), label=name) for name in ("liver", "vein"))
    assert not (liver.region & vein.region).any()
    assert not np.array_equal(liver.map, vein.map)


def test_a_true_mask_is_scored_beside_the_region(model: Model, explained: Explanation) -> None:
    assert explained.truth_pointing is None
    same = explain(model, noise(0, SIZE), truth=explained.region.astype(np.uint8))
    assert same.truth_pointing == same.pointing
    with pytest.raises(DataError, match="5 x 4 pixels, the image 52 x 40"):
        explain(model, noise(0, SIZE), truth=np.zeros((4, 5), np.uint8))


def test_a_map_that_does_not_depend_on_what_was_learnt_fails_and_says_so() -> None:
    manifest, _ = manifest_and_weights()
    model = Model(manifest, Gain().eval(), device="cpu")
    found = explain(model, noise(0, SIZE), method="integrated-gradients", steps=2)
    assert found.randomisation.correlation == pytest.approx(1)
    assert found.randomisation.similarity == pytest.approx(1)
    assert found.row()["sanity_check"] == "failed"
    assert "FAILS THE SANITY CHECK" in " ".join(found.warnings)


def test_an_empty_map_says_so_and_neither_passes_nor_fails(explained: Explanation) -> None:
    nothing = replace(
        explained,
        map=np.zeros(SIZE, np.float32),
        randomisation=replace(explained.randomisation, correlation=math.nan),
    )
    assert "EMPTY MAP" in " ".join(nothing.warnings)
    assert nothing.row()["sanity_check"] == "undefined"


def test_a_map_no_better_than_shuffled_ones_says_so(explained: Explanation) -> None:
    for deletion, insertion, warned in ((0.5, 0.5, True), (0.3, 0.4, False), (0.6, 0.7, False)):
        scores = Faithfulness(deletion, insertion, 0.5, 0.6)
        found = replace(explained, faithfulness=scores)
        assert ("NO BETTER THAN CHANCE" in " ".join(found.warnings)) == warned


def test_too_few_steps_are_reported(explained: Explanation) -> None:
    rough, exact = (replace(explained, completeness=error) for error in (0.2, 0.01))
    assert "raise --steps" in " ".join(rough.warnings)
    assert "--steps" not in " ".join(exact.warnings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "lime"}, "--method lime: there is no such method"),
        ({"label": "nukleus"}, "Did you mean 'nucleus'"),
        ({"layer": "stages.7"}, "Did you mean 'stages"),
        ({"layer": "stages.0", "method": "occlusion"}, "not at a layer"),
        ({"steps": 3}, "makes no steps"),
        ({"steps": 0, "method": "integrated-gradients"}, "Give 1 to"),
        ({"steps": 33, "method": "occlusion"}, "Give 1 to 32"),
        ({"box": (0, 0, 4, 4), "at": (1, 1)}, "both are given"),
    ],
)
def test_an_option_that_does_not_exist_or_fit_is_refused(
    model: Model, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(MedsegError, match=message):
        explain(model, noise(0, SIZE), **options)


@pytest.mark.parametrize("array", [np.zeros((4, 5, 2), np.uint8), np.zeros((4, 5, 3))])
def test_another_kind_of_array_is_refused(model: Model, array: NDArray[Any]) -> None:
    with pytest.raises(DataError):
        explain(model, array)


def test_an_image_without_the_class_has_nothing_to_explain(model: Model) -> None:
    with pytest.raises(NothingToExplainError, match="outside the image"):
        explain(model, noise(0, SIZE), at=(52, 0))
