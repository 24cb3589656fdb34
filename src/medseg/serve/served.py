"""The models of a service, loaded once and named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.errors import MedsegError
from medseg.inference.bundle import SUFFIX, find_bundle, read_graph
from medseg.inference.predictor import Predictor, load, prompts_refused, volumes_refused
from medseg.inference.runtime import load_onnx
from medseg.report.card import card_of, model_card

_WARM_UP = 64


@dataclass(frozen=True)
class Served:
    """A model that a service computes with.

    Attributes:
        name: by which clients ask for it.
        model: loaded.
        card: Markdown; empty where it has none.
    """

    name: str
    model: Predictor
    card: str


def load_models(paths: Sequence[Path], *, threads: int) -> dict[str, Served]:
    """Load models and compute one image with each, so that the first client need not wait.

    Args:
        paths: run folders, bundles or exported graphs. The graph of a bundle computes it; one
            without is computed by PyTorch.
        threads: that compute one image.

    Returns:
        By name: that of the file, or of the folder for a run.

    Raises:
        ModelError: one cannot be loaded.
        MedsegError: two have the same name.
    """
    served: dict[str, Served] = {}
    for path in paths:
        name = path.resolve().name if path.is_dir() else path.stem
        if name in served:
            raise MedsegError(
                path,
                f"another model is called {name}, too",
                "Rename one, or name run folders, so that clients can tell them apart",
            )
        file = find_bundle(path)
        is_bundle = file.suffix.lower() == SUFFIX
        has_graph = is_bundle and read_graph(file) is not None
        graph = file.suffix.lower() == ".onnx" or has_graph
        model: Predictor = load_onnx(file, threads=threads) if graph else load(file)
        if model.manifest.volume is not None:
            raise volumes_refused(path)
        if model.manifest.must_be_pointed:
            raise prompts_refused(path)
        size, channels = _WARM_UP, model.manifest.preprocessing.channels
        model.predict(np.zeros((size, size, channels), np.uint8))
        card = card_of(file) if is_bundle else model_card(model.manifest)
        served[name] = Served(name, model, card)
    return served
