"""From a trained model to a file for another engine: what `medseg export` does."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from medseg import zoo
from medseg.cores import threads as default_threads
from medseg.data.layouts import open_dataset
from medseg.errors import MedsegError, ModelError, nearest, plural
from medseg.export.formats import (
    SUFFIXES,
    Format,
    check_installed,
    open_artefact,
    write_openvino,
    write_torchscript,
)
from medseg.export.graph import OPSETS, check_opset, to_onnx
from medseg.export.measure import Cost, measure
from medseg.export.parity import check_parity, check_shapes, decided, synthetic_cases
from medseg.export.pruned import pruned_file
from medseg.export.quantise import quantise
from medseg.export.validation import Validation, no_split, open_validation
from medseg.files import atomic_path, write_text
from medseg.inference.bundle import (
    SUFFIX,
    Golden,
    Postprocessing,
    find_bundle,
    read_bundle,
    read_golden,
    read_manifest,
    write_bundle,
)
from medseg.inference.network import PICKLES, Model, load_network
from medseg.report.card import card_of

DICE_BUDGET = 0.5
"""Points of validation Dice that 8 bits may cost."""

ENGINES: dict[Format, str] = {
    "onnx": "ONNX Runtime",
    "openvino": "OpenVINO",
    "torchscript": "TorchScript",
    "web": "ONNX Runtime (the page's graph)",
}

HEAD = ("Engine", "Size, MB", "Time, ms", "Peak memory, MB", "Validation Dice")

_CASES_OF_DATA = 3
_CANDIDATES = 12


@dataclass(frozen=True)
class Row:
    """A way of computing the model.

    Attributes:
        name: of engine and precision.
        size_mb: of its files, in 10^6 bytes.
        cost: on this machine.
        dice: of the validation part, in points; None where it was not measured.
    """

    name: str
    size_mb: float
    cost: Cost
    dice: float | None


@dataclass(frozen=True)
class Export:
    """What was written, and what is known of it.

    Attributes:
        output: the file or folder.
        proof: of what the masks were compared on.
        rows: PyTorch first.
        size: height and width of the image that was timed; slices, rows and columns of a window.
        threads: that computed it.
        notes: what a user should know besides.
    """

    output: Path
    proof: str
    rows: tuple[Row, ...]
    size: tuple[int, ...]
    threads: int
    notes: tuple[str, ...]


def export(
    model: str | Path,
    output: str | Path,
    *,
    format: Format,  # noqa: A002
    int8: bool = False,
    opset: int | None = None,
    dice_budget: float | None = None,
    data: str | Path | None = None,
    layout: str = "auto",
    single_file: bool = False,
    system: str | None = None,
    depth: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Export:
    """Write a model for another engine, once it is proven to give the same masks.

    The file is opened as its user will open it and must give the golden cases' masks to the pixel;
    quantised, it must keep the validation Dice. Where it does not, nothing is written.

    Args:
        model: a run folder, a bundle, or the name of a model that comes with medseg.
        output: ``.onnx`` or ``.medseg`` for ONNX, ``.xml`` for OpenVINO (with a ``.bin`` beside
            it), ``.pt`` for TorchScript, a new folder for a web page, ``.html`` for one in a file.
        format: of the file.
        int8: convolutions in 8 bits; needs ``data``.
        opset: of ONNX, 18 to 25; default 18.
        dice_budget: points of validation Dice that 8 bits may cost; default 0.5.
        data: the dataset that the model was trained on. Its validation part is scored, its
            training part calibrates 8 bits, and a bundle without golden cases is proven on it.
        layout: how ``data`` lies on disk, where it cannot be recognised.
        single_file: the web page as one file.
        system: for a bundle whose network came from a Python file: that file.
        depth: prune a network that can be pruned to its first so many columns.
        progress: called with a line before each step.

    Raises:
        MedsegError: an option that does not fit, or a module that is not installed.
        ModelError: the model cannot be exported, or its masks differ.
    """
    model, output = Path(model), Path(output)
    model = zoo.find(model) or model
    _check_options(output, format, int8, opset, dice_budget, data, single_file)
    check_installed(format)
    source = find_bundle(model)
    if source.suffix.lower() in PICKLES:
        raise ModelError(
            source, "a state dict has neither labels nor pre-processing to be exported with it",
            "Name a run or a .medseg file",
        )  # fmt: skip
    with pruned_file(source, depth, system) as bundle:
        if bundle.suffix == SUFFIX and read_manifest(bundle).volume is not None:
            # It builds on this module.
            from medseg.export.volumes import check_options, export_volumes

            check_options(format, int8=int8, data=data)
            return export_volumes(
                bundle, output, opset=opset or OPSETS[0], system=system, progress=progress
            )
        return _export(
            model,
            bundle,
            output,
            format=format,
            int8=int8,
            opset=opset,
            dice_budget=dice_budget,
            data=data,
            layout=layout,
            single_file=single_file,
            system=system,
            progress=progress,
        )


def _export(
    model: Path,
    source: Path,
    output: Path,
    *,
    format: Format,  # noqa: A002
    int8: bool,
    opset: int | None,
    dice_budget: float | None,
    data: str | Path | None,
    layout: str,
    single_file: bool,
    system: str | None,
    progress: Callable[[str], None],
) -> Export:
    """:func:`export` of the bundle ``source``; ``model`` is the run that knows the split."""
    reference = load_network(source, device="cpu", system=system)
    # An earlier graph in the bundle is none of the new file's business.
    reference.manifest = reference.manifest.model_copy(update={"graph_sha256": None})
    validation, notes = None, []
    if data is not None:
        validation = _validation(Path(data), model, layout, needed=int8)
        if validation is None:
            notes.append(f"Validation Dice was not measured: {no_split(Path(data), model).found}.")
    dataset = None if data is None else Path(data)
    cases, proof = _proof(reference, source, dataset, validation, layout)
    with tempfile.TemporaryDirectory(prefix="medseg-export-") as scratch:

        def write(graph: bytes | None, precision: str) -> Made:
            folder = Path(scratch) / precision
            folder.mkdir()
            path = folder / output.name
            return _write(format, graph, reference, source, path, single_file=single_file)

        graph = None
        if format != "torchscript":
            progress("exporting the graph")
            graph = to_onnx(reference, opset=opset or OPSETS[0])
        progress("writing the file")
        made = {"fp32": write(graph, "fp32")}
        progress(f"comparing masks on {proof}")
        artefact = open_artefact(made["fp32"].runs)
        check_parity(artefact, cases, str(output), reference)
        check_shapes(artefact, str(output))
        if graph is not None and validation is not None and int8:
            progress("quantising to 8 bits")
            images = validation.calibration_images(reference.max_pixels)
            made["int8"] = write(quantise(graph, reference.manifest, images), "int8")
            check_shapes(open_artefact(made["int8"].runs), str(output), alike=False)
        scores: list[float | None] = [None] * (1 + len(made))
        if validation is not None:
            progress(f"scoring {plural(len(validation.cases), 'validation case')}")
            predictors = [reference, *(open_artefact(x.runs).predictor for x in made.values())]
            scores = [validation.dice(predictor) for predictor in predictors]
        if int8:
            _check_budget(output, scores, DICE_BUDGET if dice_budget is None else dice_budget)
        progress("measuring time and memory")
        image, threads = cases[0].image, default_threads()
        rows = [
            Row(
                "PyTorch",
                source.stat().st_size / 1e6,
                measure(source, image, threads=threads, weights=True, system=system),
                scores[0],
            )
        ]
        rows += [
            Row(f"{ENGINES[format]}, {precision}", each.size / 1e6,
                measure(each.runs, image, threads=threads), dice)
            for (precision, each), dice in zip(made.items(), scores[1:], strict=True)
        ]  # fmt: skip
        made["int8" if int8 else "fp32"].move(output)
    held = {"web": min(1, len(reference.manifest.golden))}.get(
        format, len(reference.manifest.golden) if output.suffix == SUFFIX else 0
    )
    if held:
        notes.append(
            f"The file holds {plural(held, 'image')} of the validation part (golden cases). Train "
            "with --set predict.golden=0 if images may not leave."
        )
    if reference.manifest.postprocessing != Postprocessing():
        notes.append(
            "Components are cleaned by medseg after the graph; another program must do so itself, "
            "by the rules under `postprocessing` in the manifest that the file holds."
        )
    size = (image.shape[0], image.shape[1])
    done = Export(output, proof, tuple(rows), size, threads, tuple(notes))
    write_text(output.with_name(f"{output.name}.md"), markdown(done))
    return done


def export_page(
    models: Sequence[str | Path],
    output: str | Path,
    *,
    opset: int | None = None,
    single_file: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Export:
    """Write a web page on which one of several models is chosen; each is proven as by
    :func:`export`, and the page holds all of them.

    Args:
        models: run folders, bundles, or names of models that come with medseg; at least one.
        output: a new folder, or with ``single_file`` an ``.html`` file.
        opset: of ONNX, 18 to 25; default 18.
        single_file: the page as one file.
        progress: called with a line before each step.

    Raises:
        MedsegError: an option that does not fit, or a module that is not installed.
        ModelError: a model cannot be exported, or its masks differ.
    """
    output = Path(output)
    _check_options(output, "web", False, opset, None, None, single_file)
    check_installed("web")
    from medseg.export.web import Offered, write_page_of

    sources = _by_name(models)
    offered: list[Offered] = []
    rows: list[Row] = []
    images = 0
    with tempfile.TemporaryDirectory(prefix="medseg-export-") as scratch:
        for name, source in sources.items():
            reference = load_network(source, device="cpu")
            reference.manifest = reference.manifest.model_copy(update={"graph_sha256": None})
            progress(f"{name}: exporting the graph")
            graph = to_onnx(reference, opset=opset or OPSETS[0])
            runs = Path(scratch) / f"{len(offered)}.onnx"
            runs.write_bytes(graph)
            cases, proof = _proof(reference, source, None, None, "auto")
            progress(f"{name}: comparing masks on {proof}")
            artefact = open_artefact(runs)
            check_parity(artefact, cases, f"{output} ({name})", reference)
            check_shapes(artefact, f"{output} ({name})")
            progress(f"{name}: measuring time and memory")
            rows += _measured(name, source, runs, cases[0])
            golden = read_golden(source)
            images += bool(golden)
            offered.append(Offered(name, graph, reference.manifest, card_of(source), golden))
        path = Path(scratch) / "page" / output.name
        path.parent.mkdir()
        write_page_of(offered, path, single_file=single_file)
        page = Made(path, path)
        size = page.size / 1e6
        page.move(output)
    notes = [f"The page has {size:.1f} MB, with all of its models."]
    if images:
        notes.append(f"It holds {plural(images, 'image')} of validation parts (golden cases).")
    shape = (cases[0].image.shape[0], cases[0].image.shape[1])
    proof = "the golden cases of each model, or synthetic images where it has none"
    done = Export(output, proof, tuple(rows), shape, default_threads(), tuple(notes))
    write_text(output.with_name(f"{output.name}.md"), markdown(done))
    return done


def _by_name(models: Sequence[str | Path]) -> dict[str, Path]:
    """Files by the names of the models: those of the files, or of the folders for runs.

    Raises:
        MedsegError: two have the same name, or one is no bundle.
    """
    found: dict[str, Path] = {}
    for model in map(Path, models):
        name = model.resolve().name if model.is_dir() else model.stem
        source = find_bundle(model)
        if source.suffix.lower() != SUFFIX:
            raise ModelError(
                source, "a page is made of runs and .medseg files", "Name a run or a .medseg file"
            )
        if name in found:
            raise MedsegError(model, f"another model is called {name}, too", "Rename one")
        found[name] = source
    return found


def _measured(name: str, source: Path, runs: Path, case: Golden) -> list[Row]:
    """What PyTorch and the page's graph cost for one image."""
    threads = default_threads()
    torch = measure(source, case.image, threads=threads, weights=True)
    onnx = measure(runs, case.image, threads=threads)
    size = runs.stat().st_size / 1e6
    return [
        Row(f"{name}: PyTorch", source.stat().st_size / 1e6, torch, None),
        Row(f"{name}: {ENGINES['web']}, fp32", size, onnx, None),
    ]


def _check_options(
    output: Path,
    format: Format,  # noqa: A002
    int8: bool,
    opset: int | None,
    dice_budget: float | None,
    data: str | Path | None,
    single_file: bool,
) -> None:
    if format not in SUFFIXES:
        raise MedsegError(
            f"--format {format}", "there is no such format", nearest(format, SUFFIXES)
        )
    if single_file and format != "web":
        raise MedsegError("--single-file", "it is for --format web", "Leave it out")
    _check_output(output, format, single_file)
    if opset is not None:
        if format not in ("onnx", "web"):
            raise MedsegError(
                f"--opset {opset}", f"--format {format} has no opset", "Leave --opset out"
            )
        check_opset(opset)
    if dice_budget is not None and not (int8 and 0 <= dice_budget <= 100):
        raise MedsegError(
            f"--dice-budget {dice_budget:g}", "it is what --int8 may cost, in points of Dice",
            "Give 0 to 100 with --int8, or leave it out",
        )  # fmt: skip
    if not int8:
        return
    if format == "torchscript" or output.suffix == SUFFIX:
        raise MedsegError(
            "--int8", f"{output.suffix} files hold the model in full precision",
            "Export to .onnx, or with --format openvino or web",
        )  # fmt: skip
    if data is None:
        raise MedsegError(
            "--int8", "it is calibrated on training images and measured on validation images",
            "Give the dataset with --data",
        )  # fmt: skip


def _check_output(output: Path, format: Format, single_file: bool) -> None:  # noqa: A002
    folder = format == "web" and not single_file
    if folder and output.suffix == ".html":
        raise MedsegError(f"-o {output}", "it names a file", "Add --single-file, or name a folder")
    if not folder and output.suffix not in SUFFIXES[format]:
        raise MedsegError(
            f"-o {output}", f"it is not a name for --format {format}",
            f"Name {' or '.join(SUFFIXES[format])}",
        )  # fmt: skip
    if output.is_dir() and not (folder and not any(output.iterdir())):
        raise MedsegError(f"-o {output}", "it is a folder that is in use", "Choose another name")
    if folder and output.is_file():
        raise MedsegError(f"-o {output}", "it is a file", "Name a new folder")


def _validation(data: Path, model: Path, layout: str, *, needed: bool) -> Validation | None:
    """The validation part, or None where the split is not known and not ``needed``."""
    open_dataset(data, layout=layout)  # an unreadable one is an error in any case
    try:
        return open_validation(data, model, layout=layout)
    except MedsegError:
        if needed:
            raise no_split(data, model) from None
        return None


def _proof(
    reference: Model, source: Path, data: Path | None, validation: Validation | None, layout: str
) -> tuple[tuple[Golden, ...], str]:
    """The cases on which masks are compared, and what to call them."""
    golden = read_golden(source)
    if golden:
        return golden, f"{plural(len(golden), 'golden case')} of the model"
    if data is None:
        synthetic = synthetic_cases(reference)
        return synthetic, f"{len(synthetic)} synthetic images, as the model has no golden cases"
    cases = open_dataset(data, layout=layout).cases if validation is None else validation.cases
    images = (
        case.image.read_image(max_pixels=reference.max_pixels) for case in cases[:_CANDIDATES]
    )
    found = tuple(decided(reference, images, _CASES_OF_DATA))
    if not found:
        raise MedsegError(f"--data {data}", "it holds no images", "Name a dataset with images")
    return found, f"{plural(len(found), 'image')} of {data}, as the model has no golden cases"


@dataclass(frozen=True)
class Made:
    """What was written, before it is moved to where it belongs.

    Attributes:
        path: the file or folder.
        runs: the file that an engine opens; of a page, the graph in it.
    """

    path: Path
    runs: Path

    @property
    def size(self) -> int:
        """Bytes of all files."""
        if self.path.is_dir():
            return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())
        return sum(file.stat().st_size for file in self._files)

    @property
    def _files(self) -> tuple[Path, ...]:
        weights = self.path.with_suffix(".bin")
        return (weights, self.path) if self.path.suffix == ".xml" else (self.path,)

    def move(self, output: Path) -> None:
        """Put it at ``output``, whole or not at all."""
        if not self.path.is_dir():
            with ExitStack() as stack:
                for file in self._files:
                    part = stack.enter_context(atomic_path(output.with_suffix(file.suffix)))
                    shutil.copyfile(file, part)
            return
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".medseg-", dir=output.parent) as beside:
            copied = shutil.copytree(self.path, Path(beside) / output.name)
            if output.is_dir():
                output.rmdir()
            copied.rename(output)


def _write(
    format: Format,  # noqa: A002
    graph: bytes | None,
    reference: Model,
    source: Path,
    path: Path,
    *,
    single_file: bool,
) -> Made:
    manifest = reference.manifest
    if graph is None:
        write_torchscript(reference, manifest, path)
        return Made(path, path)
    if format == "web":
        from medseg.export.web import write_page

        runs = path.parent / "graph.onnx"
        runs.write_bytes(graph)
        write_page(
            graph,
            manifest,
            path,
            single_file=single_file,
            card=card_of(source),
            golden=read_golden(source),
        )
        return Made(path, runs)
    if format == "openvino":
        write_openvino(graph, manifest, path)
    elif path.suffix == SUFFIX:
        weights = read_bundle(source).weights
        write_bundle(
            path, manifest, weights, card=card_of(source), golden=read_golden(source), graph=graph
        )
    else:
        path.write_bytes(graph)
    return Made(path, path)


def _check_budget(output: Path, scores: Sequence[float | None], budget: float) -> None:
    """Refuse 8 bits that cost more validation Dice than ``budget``."""
    before, after = scores[0], scores[-1]
    assert before is not None
    assert after is not None
    if before - after > budget:
        raise ModelError(
            output,
            f"8 bits cost {before - after:.2f} points of validation Dice ({before:.2f} to "
            f"{after:.2f}), and the budget is {budget:g}. Nothing was written",
            "Leave --int8 out, or raise --dice-budget",
        )


def markdown(done: Export) -> str:
    """Size, time, memory and Dice of each way of computing the model, as Markdown."""
    rows = [HEAD, ("---", *["---:"] * (len(HEAD) - 1)), *map(cells, done.rows)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"# {done.output.name}", "", *lines, "", *remarks(done), ""])


def cells(row: Row) -> tuple[str, str, str, str, str]:
    """A row of the table as text."""
    peak, dice = row.cost.peak_mb, row.dice
    return (
        row.name,
        f"{row.size_mb:.2f}",
        f"{row.cost.milliseconds:.1f}",
        "-" if peak is None else f"{peak:.0f}",
        "-" if dice is None else f"{dice:.2f}",
    )


def remarks(done: Export) -> list[str]:
    """What a reader of the table must know."""
    timed = f"decoded image ({done.size[1]} x {done.size[0]})"
    if len(done.size) == 3:
        timed = f"one window of a volume ({' x '.join(map(str, done.size))} voxels)"
    return [
        f"Masks compared on {done.proof}.",
        f"Time: median from {timed} to mask, {done.threads} "
        f"thread{'s' if done.threads > 1 else ''}, on this machine. Memory: whole process.",
        *done.notes,
    ]
