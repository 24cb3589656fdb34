"""What is installed only with an extra, and how to say so when it is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from medseg.errors import MedsegError

# Module: what people call it, and the extra that it comes with.
MODULES = {
    "accelerate": ("accelerate", "train"),
    "diffusers": ("diffusers", "hf"),
    "fastapi": ("FastAPI", "runtime"),
    "jinja2": ("Jinja2", "train"),
    "matplotlib": ("Matplotlib", "train"),
    "onnx": ("the package onnx", "export"),
    "onnxruntime": ("ONNX Runtime", "runtime"),
    "onnxscript": ("the package onnxscript", "export"),
    "openvino": ("OpenVINO", "openvino"),
    "prometheus_client": ("prometheus-client", "runtime"),
    "python_multipart": ("python-multipart", "runtime"),
    "safetensors": ("safetensors", "train"),
    "scipy": ("SciPy", "train"),
    "torch": ("PyTorch", "train"),
    "transformers": ("transformers", "hf"),
    "uvicorn": ("uvicorn", "runtime"),
}


def lacking(error: ImportError, where: object) -> MedsegError | None:
    """``error`` as what to install; None where it is not about something of an extra.

    Args:
        error: raised by an import.
        where: what needs it.
    """
    module = (error.name or "").split(".")[0]
    if module not in MODULES:
        return None
    name, extra = MODULES[module]
    if isinstance(error, ModuleNotFoundError) and error.name == module:
        return MedsegError(
            where, f"{name} is needed and not installed", f"pip install 'medseg[{extra}]'"
        )
    # There, but broken: a library of the system is missing, or a version does not fit.
    return MedsegError(
        where,
        f"{name} cannot be loaded ({error})",
        f"See `medseg doctor`, or install it again: pip install --force-reinstall {module}",
    )


@contextmanager
def needed_by(where: object) -> Iterator[None]:
    """What is missing becomes an error that says what to install.

    Raises:
        MedsegError: a module of an extra is not installed.
    """
    try:
        yield
    except ImportError as error:
        found = lacking(error, where)
        if found is None:
            raise
        raise found from error
