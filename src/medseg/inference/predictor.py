"""A trained model applied to image files and arrays."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.data.case import LabelMap
from medseg.data.io import MAX_PIXELS, read_image
from medseg.data.labels import decode_mask
from medseg.data.preprocess import resize_image, to_channels
from medseg.engine.device import choose_device, choose_precision, keep_freed_memory
from medseg.errors import DataError, ModelError, RecipeError
from medseg.inference.bundle import Bundle, Manifest, find_bundle, read_bundle
from medseg.inference.logits import predicted_classes
from medseg.losses.region import probabilities
from medseg.models import create_model, network_options

# Image axes to flip; the mean over all of them is test-time augmentation.
FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-1, -2))


HALVES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Model:
    """A trained network with its pre- and post-processing.

    Args:
        manifest: what the bundle says of itself.
        network: with the bundle's weights.
        device: where to compute: ``auto``, ``cpu``, ``cuda:0`` or ``mps``.
        precision: ``fp32``; ``bf16`` or, on a GPU, ``fp16`` trade digits for speed.

    Attributes:
        labels: the classes, with the values masks store.
    """

    def __init__(
        self,
        manifest: Manifest,
        network: nn.Module,
        *,
        device: str = "auto",
        precision: str = "fp32",
    ) -> None:
        self.manifest = manifest
        self.labels: LabelMap = manifest.label_map
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        network.eval().requires_grad_(False)
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.device.type == "cpu":
            keep_freed_memory()

    @property
    def max_pixels(self) -> int:
        """Larger images are refused; as in training (``data.max_megapixels``)."""
        data = self.manifest.recipe.get("data", {})
        return round(data["max_megapixels"] * 1e6) if "max_megapixels" in data else MAX_PIXELS

    @property
    def batch_size(self) -> int:
        """Images per forward pass. On a CPU larger batches are no faster, and with one image at
        a time a mask cannot depend on what else is predicted in the same call."""
        return 1 if self.device.type == "cpu" else 16

    def preprocess(self, image: NDArray[np.uint8]) -> Tensor:
        """``(H, W, C)`` uint8 to ``(C, S, S)`` float, normalised."""
        settings = self.manifest.preprocessing
        resized = resize_image(to_channels(image, settings.channels), settings.image_size)
        # numpy, because this runs in threads beside the network, and PyTorch would start threads
        # of its own in each of them.
        mean, std = (np.array(v, dtype=np.float32) for v in (settings.mean, settings.std))
        normalised = (resized / np.float32(255) - mean) / std
        return torch.from_numpy(normalised.transpose(2, 0, 1))

    @torch.inference_mode()
    def logits(self, inputs: Tensor, *, tta: bool = False) -> Tensor:
        """``(B, C, S, S)`` pre-processed images to ``(B, K, S, S)`` float32 logits.

        With ``tta``, probabilities are averaged over four flips and turned back into logits.
        """
        inputs = inputs.to(self.device, memory_format=torch.channels_last)
        with torch.autocast(
            self.device.type, dtype=HALVES[self.precision], enabled=self.precision != "fp32"
        ):
            if not tta:
                out: Tensor = self.network(inputs).float()
                return out
            mean = torch.stack(
                [
                    probabilities(self.network(inputs.flip(axes)).float()).flip(axes)
                    for axes in FLIPS
                ]
            ).mean(0)
        return torch.logit(mean, eps=1e-6) if mean.shape[1] == 1 else mean.clamp_min(1e-12).log()

    def resize_logits(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """``(K, S, S)`` logits of one image to ``(K, H, W)``, bilinear."""
        if logits.shape[-2:] == size:
            return logits
        return F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]

    def classes(self, logits: Tensor) -> NDArray[np.uint8]:
        """``(K, H, W)`` logits to ``(H, W)`` class indices."""
        found: NDArray[np.uint8] = (
            predicted_classes(logits[None], self.manifest.threshold)[0].cpu().numpy()
        )
        return found

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
        return decode_mask(self.classes(self._image_logits(image, tta)), self.labels)

    def predict_probabilities(
        self, image: str | Path | NDArray[np.uint8], *, tta: bool = False
    ) -> NDArray[np.float32]:
        """``(K, H, W)`` class probabilities of one image; K = 1 (foreground) for a binary task."""
        return self.probabilities(self._image_logits(image, tta))

    def probabilities(self, logits: Tensor) -> NDArray[np.float32]:
        """``(K, H, W)`` logits to probabilities of the same shape."""
        found: NDArray[np.float32] = probabilities(logits[None])[0].cpu().numpy()
        return found

    def _image_logits(self, image: str | Path | NDArray[np.uint8], tta: bool) -> Tensor:
        array = as_image(image, self.max_pixels)
        logits = self.logits(self.preprocess(array)[None], tta=tta)[0]
        return self.resize_logits(logits, (array.shape[0], array.shape[1]))


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
) -> Model:
    """Load a trained model.

    Args:
        path: a run folder, a bundle (``.medseg``), or, with ``trust``, a pickled state dict.
        device: ``auto``, ``cpu``, ``cuda:0`` or ``mps``.
        precision: ``fp32``; ``bf16`` or, on a GPU, ``fp16`` trade digits for speed.
        trust: unpickle a foreign ``.pt``/``.pth`` file, **which can run any code it contains**.
        system: the network of a pickled state dict; for a bundle trained with a network from a
            Python file, that file.

    Raises:
        ModelError: nothing there, damaged, a pickle without ``trust``, or weights that do not fit.
    """
    source = find_bundle(Path(path))
    if source.suffix.lower() in (".pt", ".pth", ".ckpt", ".bin", ".pkl"):
        return _load_pickle(source, device=device, precision=precision, trust=trust, system=system)
    bundle = read_bundle(source)
    manifest = bundle.manifest
    if manifest.system.endswith(".py") and system is None:
        raise ModelError(
            source,
            f"its network is in the file {manifest.system}, which a bundle does not contain",
            "Name that file with --system (system= in Python)",
        )
    return Model(
        manifest, _restore(source, bundle, system), device=device, precision=precision
    )  # fmt: skip


def _restore(source: Path, bundle: Bundle, system: str | None) -> nn.Module:
    manifest = bundle.manifest
    name = system or manifest.system
    try:
        network = create_model(
            name,
            in_channels=manifest.preprocessing.channels,
            num_classes=manifest.num_classes,
            **network_options(name, manifest.network),
        )
        network.load_state_dict(load_safetensors(bundle.weights))
    except (SafetensorError, RuntimeError, KeyError, ValueError, RecipeError) as error:
        raise ModelError(
            source, f"its weights do not fit its network ({error})", "Copy or train it again"
        ) from error
    return network


def _load_pickle(
    source: Path, *, device: str, precision: str, trust: bool, system: str | None
) -> Model:
    if not source.is_file():
        raise ModelError(source, "there is no such file", "Check the path")
    if not trust:
        raise ModelError(
            source,
            "it is a pickle, which can run any code when it is loaded",
            "If you trust its author, repeat with --trust --system NAME",
        )
    if system is None:
        raise ModelError(
            source, "a state dict does not say which network it belongs to", "Add --system NAME"
        )
    try:
        content = torch.load(source, map_location="cpu", weights_only=False)
    except Exception as error:  # unpickling may raise anything
        raise ModelError(source, f"it cannot be unpickled ({error})", "Copy it again") from error
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ModelError(source, "it holds no state dict", "Save model.state_dict()")
    return _from_state_dict(source, content, device=device, precision=precision, system=system)


def _from_state_dict(
    source: Path, weights: dict[str, Tensor], *, device: str, precision: str, system: str
) -> Model:
    """A model around bare weights: 256 px, images scaled to -1..1, classes valued 0, 1, 2 ...

    The channels of the first convolution and of the last layer tell the images' channels and the
    number of classes.
    """
    kernels = [w for w in weights.values() if w.ndim == 4]
    if not kernels or kernels[0].shape[1] not in (1, 3):
        raise ModelError(source, "its first layer takes neither 1 nor 3 channels", "Check --system")
    channels, classes = kernels[0].shape[1], kernels[-1].shape[0]
    network = create_model(system, in_channels=channels, num_classes=classes)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(source, f"it does not fit {system} ({error})", "Check --system") from error
    names = ["background", *(f"class_{k}" for k in range(1, max(2, classes)))]
    manifest = Manifest.model_validate(
        {
            "system": system,
            "network": {},
            "num_classes": classes,
            "labels": [{"name": n, "value": i} for i, n in enumerate(names)],
            "preprocessing": {
                "image_size": 256,
                "channels": channels,
                "mean": [0.5] * channels,
                "std": [0.5] * channels,
            },
            "recipe": {},
            "data": {},
            "scores": {},
            "parameters": sum(p.numel() for p in network.parameters()),
            "weights_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        }
    )
    return Model(manifest, network, device=device, precision=precision)
