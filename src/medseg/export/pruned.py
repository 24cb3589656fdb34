"""A pruned model as a file, for what is made of files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from medseg.export.parity import decided
from medseg.inference.bundle import SUFFIX, read_bundle, read_golden, write_bundle
from medseg.inference.network import load_model
from medseg.inference.pruning import prune
from medseg.inference.volumes.model import VolumeModel
from medseg.report.card import model_card


@contextmanager
def pruned_file(source: Path, depth: int | None, system: str | None) -> Iterator[Path]:
    """A bundle of the network of ``depth``, for as long as the context lasts.

    Its golden cases have the images of the whole model's, and the masks that the pruned network
    gives them.

    Args:
        source: bundle of the whole network; it is what one gets where ``depth`` is None.
        depth: as for :func:`medseg.inference.pruning.prune`.
        system: file of the network, where the bundle names one.

    Raises:
        ModelError: it cannot be pruned so.
    """
    if depth is None:
        yield source
        return
    bundle = prune(source, read_bundle(source), depth, system)
    model = load_model(source, device="cpu", system=system, depth=depth)
    whole = read_golden(source)
    golden = (
        tuple(
            replace(case, classes=model.predict_array(case.image, case.spacing).classes)
            for case in whole
        )
        if isinstance(model, VolumeModel)
        else tuple(decided(model, (case.image for case in whole), len(whole)))
    )
    with tempfile.TemporaryDirectory(prefix="medseg-pruned-") as folder:
        path = Path(folder) / f"{source.stem}{SUFFIX}"
        card = model_card(bundle.manifest)
        write_bundle(path, bundle.manifest, bundle.weights, card=card, golden=golden)
        yield path
