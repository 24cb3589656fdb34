"""Time of every exported format against PyTorch, and which nodes it is spent on.

    python benchmarks/export.py

Random weights. All engines compute the same image of noise in this process, taking turns, from
decoded pixels to the mask. 8 bits are calibrated on noise: time does not depend on the ranges.
"""

from __future__ import annotations

import importlib.metadata
import json
import statistics
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common import RESULTS, random_model, save
from medseg.cores import threads
from medseg.export.formats import open_artefact, write_openvino, write_torchscript
from medseg.export.graph import to_onnx
from medseg.export.measure import time_predictions
from medseg.export.quantise import quantise
from medseg.inference.network import Model
from medseg.inference.runtime import IMAGE

SYSTEMS, SIZE, RUNS, PROFILED = ("med2d-segnet", "unet-narrow"), 256, 20, 5


def noise(seed: int) -> NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


def write_all(model: Model, folder: Path) -> dict[str, Path]:
    """Engine and precision to file."""
    files = {
        "ONNX Runtime fp32": folder / "fp32.onnx",
        "ONNX Runtime int8": folder / "int8.onnx",
        "OpenVINO fp32": folder / "fp32.xml",
        "OpenVINO int8": folder / "int8.xml",
        "TorchScript fp32": folder / "fp32.pt",
    }
    graph = to_onnx(model)
    small = quantise(graph, model.manifest, [noise(seed) for seed in range(8)])
    for precision, each in (("fp32", graph), ("int8", small)):
        files[f"ONNX Runtime {precision}"].write_bytes(each)
        write_openvino(each, model.manifest, files[f"OpenVINO {precision}"])
    write_torchscript(model, model.manifest, files["TorchScript fp32"])
    return files


def megabytes(path: Path) -> float:
    """Of a file, and of OpenVINO's weights beside it."""
    files = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    return round(sum(file.stat().st_size for file in files) / 1e6, 2)


def kind_of(node: Any) -> str:
    """An ONNX node's kind; convolutions by their kernel, and whether they are depthwise."""
    if node.op_type != "Conv":
        return str(node.op_type)
    values = {each.name: each for each in node.attribute}
    side = values["kernel_shape"].ints[0]
    return f"{'depthwise' if values['group'].i > 1 else 'convolution'} {side}x{side}"


def shares(times: Counter[str]) -> dict[str, float]:
    """The largest shares of the sum, in percent."""
    total = sum(times.values())
    return {kind: round(100 * value / total, 1) for kind, value in times.most_common(6)}


def onnx_shares(path: Path) -> dict[str, float]:
    """Where ONNX Runtime spends its time."""
    import onnx
    import onnxruntime

    kinds = {node.name: kind_of(node) for node in onnx.load(path).graph.node}
    with tempfile.TemporaryDirectory() as scratch:
        options = onnxruntime.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(scratch) / "profile")
        options.intra_op_num_threads = threads()
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for _ in range(PROFILED):
            session.run(None, {IMAGE: noise(0)[None]})
        events = json.loads(Path(session.end_profiling()).read_text())
    times: Counter[str] = Counter()
    for event in events:
        name = event["name"].removesuffix("_kernel_time")
        if name == event["name"]:
            continue
        # The layout optimiser and the quantiser put words of their own before and after.
        known = [each for each in kinds if each and each in name]
        kind = kinds[max(known, key=len)] if known else event["args"]["op_name"]
        times[kind] += event["dur"]
    return shares(times)


def openvino_shares(path: Path) -> dict[str, float]:
    """Where OpenVINO spends its time."""
    import openvino

    core = openvino.Core()
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads(),
               "PERF_COUNT": True}  # fmt: skip
    request = core.compile_model(core.read_model(path), "CPU", options).create_infer_request()
    times: Counter[str] = Counter()
    for _ in range(PROFILED):
        request.infer({IMAGE: noise(0)[None]})
        for each in request.profiling_info:
            times[f"{each.node_type} {each.exec_type}"] += each.real_time.microseconds
    return shares(times)


def main() -> None:
    torch.set_num_threads(threads())
    measured: dict[str, Any] = {}
    for system in SYSTEMS:
        model = random_model(system, SIZE)
        with tempfile.TemporaryDirectory() as scratch:
            files = write_all(model, Path(scratch))
            engines = {"PyTorch fp32": model} | {
                name: open_artefact(path, threads=threads()).predictor
                for name, path in files.items()
            }
            times = time_predictions([*engines.values()], noise(0), runs=RUNS)
            found = dict(zip(engines, times, strict=True))
            measured[system] = {
                "median_ms": {name: round(statistics.median(t), 1) for name, t in found.items()},
                "least_ms": {name: round(min(t), 1) for name, t in found.items()},
                "pytorch_over_it": {
                    name: round(min(found["PyTorch fp32"]) / min(t), 2) for name, t in found.items()
                },
                "megabytes": {name: megabytes(path) for name, path in files.items()},
                "percent_of_time": {
                    name: (onnx_shares if path.suffix == ".onnx" else openvino_shares)(path)
                    for name, path in files.items()
                    if path.suffix != ".pt"
                },
            }
    versions = {name: importlib.metadata.version(name) for name in ("onnxruntime", "openvino")}
    save(
        RESULTS / "export.json",
        {
            "setting": {"image": [SIZE, SIZE], "threads": threads(), "runs": RUNS, **versions},
            "systems": measured,
        },
    )


if __name__ == "__main__":
    main()
