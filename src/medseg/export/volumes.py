"""Models of volumes as ONNX: the network on one window; medseg does what comes before and after."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from medseg.cores import threads as default_threads
from medseg.errors import MedsegError, plural
from medseg.export.exporter import ENGINES, Export, Made, Row, markdown
from medseg.export.formats import Format, open_artefact
from medseg.export.graph import volume_to_onnx
from medseg.export.measure import measure
from medseg.export.parity import check_parity, check_windows, synthetic_volume
from medseg.files import write_text
from medseg.inference.bundle import SUFFIX, Manifest, read_bundle, read_golden, write_bundle
from medseg.inference.network import load_model
from medseg.inference.volumes.model import VolumeModel
from medseg.inference.volumes.runtime import OnnxVolumeModel
from medseg.report.card import card_of


def check_options(format: Format, *, int8: bool, data: str | Path | None) -> None:  # noqa: A002
    """Refuse what is not done with models of volumes.

    Raises:
        MedsegError: another format than ONNX, or an option for models of pictures.
    """
    if format != "onnx":
        raise MedsegError(
            f"--format {format}", "models of volumes are exported to ONNX only", "Use --format onnx"
        )
    for option, given in (("--int8", int8), ("--data", data)):
        if given:
            raise MedsegError(
                option, "it is for models of pictures",
                "Leave it out, and score masks of `medseg predict --engine onnx`",
            )  # fmt: skip


def export_volumes(
    source: Path,
    output: Path,
    *,
    opset: int,
    system: str | None,
    progress: Callable[[str], None],
) -> Export:
    """:func:`medseg.export.exporter.export` of a bundle of a model of volumes.

    Args:
        source: the bundle.
        output: ``.onnx`` or ``.medseg``.
        opset: of ONNX.
        system: for a bundle whose network came from a Python file: that file.
        progress: called with a line before each step.

    Raises:
        ModelError: the model cannot be exported, or its masks differ.
    """
    reference = load_model(source, device="cpu", system=system)
    assert isinstance(reference, VolumeModel)
    # An earlier graph in the bundle is none of the new file's business.
    reference.manifest = reference.manifest.model_copy(update={"graph_sha256": None})
    patch = reference.settings.patch
    cases = read_golden(source)
    proof = f"{plural(len(cases), 'golden case')} of the model and on noise of eight windows"
    if not cases:
        cases = (synthetic_volume(reference, patch, seed=1),)
        proof = "noise of one and of eight windows, as the model has no golden cases"
    threads = default_threads()
    with tempfile.TemporaryDirectory(prefix="medseg-export-") as scratch:
        progress("exporting the graph")
        path = Path(scratch) / output.name
        _write(volume_to_onnx(reference, opset=opset), reference.manifest, source, path)
        progress(f"comparing masks on {proof}")
        artefact = open_artefact(path)
        assert isinstance(artefact.predictor, OnnxVolumeModel)
        check_parity(artefact, cases, str(output), reference)
        check_windows(artefact.predictor, reference, str(output))
        progress("measuring time and memory")
        window = synthetic_volume(reference, patch, seed=1).image
        torch = measure(source, window, threads=threads, weights=True, system=system)
        onnx = measure(path, window, threads=threads)
        made = Made(path, path)
        rows = (
            Row("PyTorch", source.stat().st_size / 1e6, torch, None),
            Row(f"{ENGINES['onnx']}, fp32", made.size / 1e6, onnx, None),
        )
        made.move(output)
    notes = _notes(output, reference.manifest)
    done = Export(output, proof, rows, patch, threads, notes)
    write_text(output.with_name(f"{output.name}.md"), markdown(done))
    return done


def _write(graph: bytes, manifest: Manifest, source: Path, path: Path) -> None:
    if path.suffix != SUFFIX:
        path.write_bytes(graph)
        return
    weights, golden = read_bundle(source).weights, read_golden(source)
    write_bundle(path, manifest, weights, card=card_of(source), golden=golden, graph=graph)


def _notes(output: Path, manifest: Manifest) -> tuple[str, ...]:
    """What a user should know of the file besides."""
    if output.suffix != SUFFIX:
        return (
            "The graph takes one window, resampled and normalised; another program must do this, "
            "and put windows together, as the manifest in the file says.",
        )
    if manifest.golden:
        return (
            f"The file holds {plural(len(manifest.golden), 'piece')} of volumes of the validation "
            "part (golden cases). Train with --set predict.golden=0 if they may not leave.",
        )
    return ()
