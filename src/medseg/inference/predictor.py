"""A trained model applied to image files and arrays, whatever computes it.

Nothing here needs PyTorch: :class:`medseg.inference.network.Model` computes with it,
:class:`medseg.inference.runtime.OnnxModel` with ONNX Runtime.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from medseg import zoo
from medseg.data.case import LabelMap
from medseg.data.io import MAX_PIXELS, read_image
from medseg.data.labels import decode_mask
from medseg.data.preprocess import to_channels
from medseg.errors import DataError, ModelError
from medseg.extras import needed_by
from medseg.inference.bundle import SUFFIX, Manifest, find_bundle
from medseg.inference.components import clean

# Image axes to flip, counted from the last, which is the width; the mean over all of them is
# test-time augmentation.
FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-1, -2))

Engine = Literal["auto", "torch", "onnx"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model makes of one image.

    Attributes:
        classes: ``(H, W)`` uint8 class indices.
        probabilities: ``(K, H, W)`` float32, K = 1 (foreground) for a binary task; None where
            they were not asked for.
    """

    classes: NDArray[np.uint8]
    probabilities: NDArray[np.float32] | None = None


class Predictor(ABC):
    """From images to masks: what Python, the command line and the service have in common.

    Args:
        manifest: what the bundle says of itself.

    Attributes:
        manifest: likewise.
        labels: the classes, with the values masks store.
        engine: what computes.
        fixed_by_image: whether an image alone determines its mask, so that a mask that is there
            need not be made again.
        precision: of the network's numbers: ``fp32``, ``bf16``, ``fp16`` or ``int8``. Masks of
            one model differ by it, and not by the engine.

    Raises:
        ModelError: it was pre-trained on images alone, and has learnt no masks.
    """

    engine: ClassVar[Literal["torch", "onnx", "openvino", "torchscript"]]

    fixed_by_image: ClassVar[bool] = True

    precision: str = "fp32"

    def __init__(self, manifest: Manifest) -> None:
        if manifest.recipe.get("method") == "reconstruction":
            raise ModelError(
                manifest.title or manifest.system,
                "it was pre-trained on images alone and predicts no masks",
                "Train a model that starts from it: medseg train DATA --init MODEL",
            )
        self.manifest = manifest
        self.labels: LabelMap = manifest.label_map

    @property
    def max_pixels(self) -> int:
        """Larger images are refused; as in training (``data.max_megapixels``)."""
        data = self.manifest.recipe.get("data", {})
        return round(data["max_megapixels"] * 1e6) if "max_megapixels" in data else MAX_PIXELS

    @property
    def batch_size(self) -> int:
        """Images that :meth:`infer` is best given at once."""
        return 1

    def check_ready(self) -> None:
        """Whether images can be predicted.

        Raises:
            ModelError: the model has to be pointed at something first.
        """
        if self.manifest.must_be_pointed:
            raise ModelError(
                self.manifest.system,
                f"it is pointed at what it segments, and {self.engine} cannot point",
                "Use the .medseg file with PyTorch",
            )

    @abstractmethod
    def prepare(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        """``(H, W, C)`` uint8 to what :meth:`infer` takes; may run in threads beside it.

        Raises:
            DataError: neither the model's channels, nor grey or colour for a model of the other.
        """

    @abstractmethod
    def compute(
        self,
        prepared: Sequence[NDArray[Any]],
        sizes: Sequence[tuple[int, int]],
        *,
        tta: bool = False,
        with_probabilities: bool = False,
    ) -> Iterator[Prediction]:
        """:meth:`infer` before components are cleaned."""

    def infer(
        self,
        prepared: Sequence[NDArray[Any]],
        sizes: Sequence[tuple[int, int]],
        *,
        tta: bool = False,
        with_probabilities: bool = False,
    ) -> Iterator[Prediction]:
        """Predictions in order.

        Args:
            prepared: by :meth:`prepare`.
            sizes: height and width of each image.
            tta: the mean of the probabilities over four flips.
            with_probabilities: give them, too.
        """
        rules = self.manifest.postprocessing
        for found in self.compute(prepared, sizes, tta=tta, with_probabilities=with_probabilities):
            yield Prediction(clean(found.classes, rules), found.probabilities)

    def decide(self, probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
        """``(K, H, W)`` probabilities to ``(H, W)`` class indices."""
        if len(probabilities) == 1:
            reached: NDArray[np.bool_] = probabilities[0] >= np.float32(self.manifest.threshold)
            return reached.astype(np.uint8)
        largest: NDArray[np.intp] = probabilities.argmax(axis=0)
        return largest.astype(np.uint8)

    def predict(
        self, image: str | Path | NDArray[np.uint8], *, tta: bool = False
    ) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """The mask of one image.

        Args:
            image: a file, or an array ``(H, W)`` or ``(H, W, C)`` uint8, where C is the number of
                the model's channels, or 1 or 3 for a model of 3 or 1.
            tta: average over flips.

        Returns:
            ``(H, W)`` label values as the training masks stored them, ``(H, W, 3)`` colours if
            those were RGB-coded.

        Raises:
            DataError: an unreadable file, or an array of another shape or type.
        """
        return decode_mask(self._of(image, tta=tta).classes, self.labels)

    def predict_probabilities(
        self, image: str | Path | NDArray[np.uint8], *, tta: bool = False
    ) -> NDArray[np.float32]:
        """``(K, H, W)`` calibrated class probabilities of one image; K = 1 (foreground) for a
        binary task."""
        found = self._of(image, tta=tta, with_probabilities=True).probabilities
        assert found is not None
        return found

    def _of(self, image: str | Path | NDArray[np.uint8], **options: bool) -> Prediction:
        array = as_image(image, self.max_pixels)
        size = (array.shape[0], array.shape[1])
        return next(self.infer([self.prepare(array)], [size], **options))


class GraphModel(Predictor):
    """An exported graph, which resizes, normalises and decides by itself."""

    @abstractmethod
    def apply(
        self, image: NDArray[np.uint8], *, with_probabilities: bool
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
        """``(H, W, C)`` to ``(H, W)`` class indices and, if wanted, ``(K, H, W)`` probabilities."""

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return to_channels(image, self.manifest.preprocessing.channels)

    def compute(
        self,
        prepared: Sequence[NDArray[np.uint8]],
        sizes: Sequence[tuple[int, int]],
        *,
        tta: bool = False,
        with_probabilities: bool = False,
    ) -> Iterator[Prediction]:
        del sizes  # an image keeps its size on its way through the graph
        for image in prepared:
            if not tta:
                yield Prediction(*self.apply(image, with_probabilities=with_probabilities))
                continue
            mean: NDArray[np.float32] = np.stack(
                [self._flipped(image, axes) for axes in FLIPS]
            ).mean(axis=0)
            yield Prediction(self.decide(mean), mean if with_probabilities else None)

    def _flipped(self, image: NDArray[np.uint8], axes: tuple[int, ...]) -> NDArray[np.float32]:
        """Probabilities of the image flipped along ``axes`` of height and width, flipped back."""
        turned = np.ascontiguousarray(np.flip(image, tuple(axis - 1 for axis in axes)))
        _, shares = self.apply(turned, with_probabilities=True)
        assert shares is not None
        return np.asarray(np.flip(shares, axes))


def as_image(image: str | Path | NDArray[np.uint8], max_pixels: int) -> NDArray[np.uint8]:
    """A file or an array as (H, W, C) uint8.

    Raises:
        DataError: an unreadable file, or an array of another shape or type.
    """
    if isinstance(image, str | Path):
        return read_image(Path(image), max_pixels=max_pixels)
    array = image[:, :, None] if image.ndim == 2 else image
    right = array.ndim == 3 and array.shape[2] <= 64 and array.dtype == np.uint8
    if not right or not array.size:
        raise DataError(
            "image", f"an array of shape {image.shape} and type {image.dtype}",
            "Give (H, W) or (H, W, channels) uint8",
        )  # fmt: skip
    return array


def load(
    path: str | Path,
    *,
    device: str = "auto",
    precision: str = "fp32",
    trust: bool = False,
    system: str | None = None,
    engine: Engine = "auto",
    depth: int | None = None,
) -> Predictor:
    """Load a trained model.

    Args:
        path: a run folder, a bundle (``.medseg``), an exported graph (``.onnx``), the name of a
            model that comes with medseg (``polyp``) or, with ``trust``, a pickled state dict.
        device: ``auto``, ``cpu``, ``cuda:0`` or ``mps``.
        precision: ``fp32``; ``bf16`` or, on a GPU, ``fp16`` trade digits for speed.
        trust: unpickle a foreign ``.pt``/``.pth`` file, **which can run any code it contains**.
        system: the network of a pickled state dict; for a bundle trained with a network from a
            Python file, that file.
        engine: ``torch`` or ``onnx``; ``auto`` computes a bundle with PyTorch where it is
            installed, else with ONNX Runtime, and a graph with ONNX Runtime.
        depth: prune a network that can be pruned (UNet++) to its first so many columns; it is then
            faster, needs less memory, and is not calibrated.

    Raises:
        ModelError: nothing there, damaged, a pickle without ``trust``, or weights that do not fit.
        MedsegError: what would compute it is not installed.
    """
    if engine not in get_args(Engine):
        raise ModelError(f"--engine {engine}", "there is no such engine", "Use auto, torch or onnx")
    source = find_bundle(Path(path))
    if not source.is_file():
        raise ModelError(
            source,
            "there is no such file",
            f"Name a run of `medseg train`, a .medseg or an .onnx file{zoo.suggestion(source)}",
        )
    suffix = source.suffix.lower()
    portable = suffix == ".onnx" or (suffix == SUFFIX and not _installed("torch"))
    with needed_by(source):
        if engine == "torch" or (engine == "auto" and not portable):
            from medseg.inference.network import load_model

            return load_model(
                source, device=device, precision=precision, trust=trust, system=system, depth=depth
            )
        if depth is not None:
            raise ModelError(
                f"--depth {depth}", "a graph cannot be pruned any more",
                "Prune it with `medseg export MODEL --depth`, or compute with PyTorch",
            )  # fmt: skip
        if (device, precision) not in ((d, "fp32") for d in ("auto", "cpu")):
            raise ModelError(
                source, f"ONNX Runtime computes on the CPU in fp32, not on {device} in {precision}",
                "Leave --device out, or use the .medseg file with PyTorch",
            )  # fmt: skip
        from medseg.inference.runtime import load_onnx

        return load_onnx(source)


def volumes_refused(where: object) -> ModelError:
    """What to say where only models of pictures can be used."""
    return ModelError(
        where,
        "it is a model of volumes, and this is only done with models of pictures",
        "Use `medseg predict` or `medseg evaluate`",
    )


def prompts_refused(where: object) -> ModelError:
    """What to say where nothing can be pointed at."""
    return ModelError(
        where,
        "it is pointed at what it segments, and here nothing can be pointed at",
        "Use `medseg predict` with --point, --box or --scribble, `medseg evaluate` with "
        "--interactions, or a session in Python",
    )


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
