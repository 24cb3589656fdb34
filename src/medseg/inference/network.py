"""A trained PyTorch network with its pre- and post-processing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn
from torch.nn import functional as F

from medseg import systems
from medseg.data.preprocess import resize_image, to_channels
from medseg.engine.device import choose_device, choose_precision, keep_freed_memory
from medseg.errors import ModelError
from medseg.inference.budget import built_within
from medseg.inference.bundle import Bundle, Manifest, find_bundle, read_bundle, shown
from medseg.inference.logits import predicted_classes
from medseg.inference.predictor import (
    FLIPS,
    Prediction,
    Predictor,
    prompts_refused,
    volumes_refused,
)
from medseg.inference.pruning import prune
from medseg.inference.volumes.model import VolumeModel
from medseg.losses.region import probabilities
from medseg.models import create_model, network_class, network_options
from medseg.nn.published import Published

HALVES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl")


class Model(Predictor):
    """A trained network with its pre- and post-processing.

    Args:
        manifest: what the bundle says of itself.
        network: with the bundle's weights.
        device: where to compute: ``auto``, ``cpu``, ``cuda:0`` or ``mps``.
        precision: ``fp32``; ``bf16`` or, on a GPU, ``fp16`` trade digits for speed.
    """

    engine = "torch"

    def __init__(
        self,
        manifest: Manifest,
        network: nn.Module,
        *,
        device: str = "auto",
        precision: str = "fp32",
    ) -> None:
        super().__init__(manifest)
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        network.eval().requires_grad_(False)
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.device.type == "cpu":
            keep_freed_memory()

    @property
    def batch_size(self) -> int:
        """Images per forward pass. On a CPU larger batches are no faster, and with one image at
        a time a mask cannot depend on what else is predicted in the same call."""
        return 1 if self.device.type == "cpu" else 16

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """``(H, W, C)`` uint8 to ``(C, S, S)`` float32, normalised."""
        settings = self.manifest.preprocessing
        resized = resize_image(to_channels(image, settings.channels), settings.image_size)
        # numpy, because this runs in threads beside the network, and PyTorch would start threads
        # of its own in each of them.
        mean, std = (np.array(v, dtype=np.float32) for v in (settings.mean, settings.std))
        normalised = (resized / np.float32(255) - mean) / std
        return np.ascontiguousarray(normalised.transpose(2, 0, 1))

    def preprocess(self, image: NDArray[np.uint8]) -> Tensor:
        """:meth:`prepare` as a tensor."""
        return torch.from_numpy(self.prepare(image))

    @torch.inference_mode()
    def logits(self, inputs: Tensor) -> Tensor:
        """``(B, C, S, S)`` pre-processed images to ``(B, K, S, S)`` float32 calibrated logits."""
        inputs = inputs.to(self.device, memory_format=torch.channels_last)
        with torch.autocast(
            self.device.type, dtype=HALVES[self.precision], enabled=self.precision != "fp32"
        ):
            out: Tensor = self.network(inputs).float()
        return out / self.manifest.temperature

    def resize_logits(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """``(K, S, S)`` logits of one image to ``(K, H, W)``, bilinear."""
        if logits.shape[-2:] == size:
            return logits
        return F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]

    def classes(self, logits: Tensor) -> NDArray[np.uint8]:
        """``(K, H, W)`` logits to ``(H, W)`` class indices, before any post-processing."""
        found: NDArray[np.uint8] = (
            predicted_classes(logits[None], self.manifest.threshold)[0].cpu().numpy()
        )
        return found

    def compute(
        self,
        prepared: Sequence[NDArray[np.float32]],
        sizes: Sequence[tuple[int, int]],
        *,
        tta: bool = False,
        with_probabilities: bool = False,
    ) -> Iterator[Prediction]:
        inputs = torch.from_numpy(np.stack(prepared))
        views = [
            (axes, self.logits(inputs.flip(axes)).flip(axes)) for axes in (FLIPS if tta else ((),))
        ]
        for index, size in enumerate(sizes):
            resized = [self.resize_logits(logits[index], size) for _, logits in views]
            if not tta:
                shares = probabilities(resized[0][None])[0] if with_probabilities else None
                yield Prediction(self.classes(resized[0]), _array(shares))
                continue
            shares = torch.stack([probabilities(each[None])[0] for each in resized]).mean(0)
            array = _array(shares)
            assert array is not None
            yield Prediction(self.decide(array), array if with_probabilities else None)


def _array(values: Tensor | None) -> NDArray[np.float32] | None:
    return None if values is None else values.cpu().numpy()


def load_network(
    path: str | Path,
    *,
    device: str = "auto",
    precision: str = "fp32",
    trust: bool = False,
    system: str | None = None,
    depth: int | None = None,
) -> Model:
    """:func:`medseg.load` for what needs the network itself: always computed by PyTorch.

    Raises:
        ModelError: as :func:`medseg.load`, the file holds no PyTorch weights, or it is a model of
            volumes or one that is pointed at what it segments.
    """
    model = load_model(
        path, device=device, precision=precision, trust=trust, system=system, depth=depth
    )
    if not isinstance(model, Model):
        raise volumes_refused(path)
    if model.manifest.must_be_pointed:
        raise prompts_refused(path)
    return model


def load_model(
    path: str | Path,
    *,
    device: str = "auto",
    precision: str = "fp32",
    trust: bool = False,
    system: str | None = None,
    depth: int | None = None,
) -> Model | VolumeModel:
    """:func:`load_network` that takes models of volumes, too."""
    source = find_bundle(Path(path))
    if source.suffix.lower() in PICKLES:
        if depth is not None:
            raise ModelError(
                f"--depth {depth}", "a state dict does not say how its network was built",
                "Name a run or a .medseg file",
            )  # fmt: skip
        return _load_pickle(source, device=device, precision=precision, trust=trust, system=system)
    if source.suffix.lower() == ".onnx":
        raise ModelError(
            source, "it holds a graph and no network to look into", "Name the run or its .medseg"
        )
    bundle = read_bundle(source)
    manifest = bundle.manifest
    if manifest.system.endswith(".py") and system is None:
        raise ModelError(
            source,
            f"its network is in the file {manifest.system}, which a bundle does not contain",
            "Name that file with --system (system= in Python)",
        )
    if depth is not None:
        bundle = prune(source, bundle, depth, system)
        manifest = bundle.manifest
    if manifest.volume is None and _takes_volumes_only(manifest.system):
        raise ModelError(
            source, "it holds weights of volumes, and does not say how volumes are prepared",
            "Train from it: medseg train DATA --init",
        )  # fmt: skip
    network = _restore(source, bundle, system)
    if manifest.volume is not None:
        return VolumeModel(manifest, network, device=device, precision=precision)
    if manifest.sentences:
        from medseg.inference.text import text_model_of

        return text_model_of(manifest, network, device=device, precision=precision)
    return _model_of(manifest)(manifest, network, device=device, precision=precision)


def _takes_volumes_only(system: str) -> bool:
    return system in systems.names() and systems.load_card(system).dims == (3,)


def _restore(source: Path, bundle: Bundle, system: str | None) -> nn.Module:
    manifest = bundle.manifest
    name = system or manifest.system
    try:
        weights = load_safetensors(bundle.weights)
        with built_within(len(weights), sum(each.numel() for each in weights.values())):
            network = create_model(
                name,
                in_channels=manifest.preprocessing.channels,
                num_classes=1 if manifest.prompts else manifest.num_classes,
                **network_options(name, manifest.network),
            )
        network.load_state_dict(weights)
    # A network that is given nonsense as options may raise anything.
    except Exception as error:
        raise ModelError(
            source,
            f"its weights do not fit its network ({shown(error, 500)})",
            "Copy or train it again",
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
    """A model around bare weights; what they do not say is as :func:`_guessed`, unless the network
    knows the layout of published ones."""
    build = network_class(system)
    known: Callable[[Mapping[str, Tensor]], Published] | None = getattr(build, "published", None)
    try:
        found = _guessed(weights) if known is None else known(weights)
        network = create_model(
            system,
            in_channels=found.in_channels,
            num_classes=found.num_classes,
            **found.options,
        )
        network.load_state_dict(dict(found.weights))
    except ValueError as error:
        raise ModelError(source, str(error), "Check --system") from error
    except RuntimeError as error:
        raise ModelError(source, f"it does not fit {system} ({error})", "Check --system") from error
    names = ["background", *(f"class_{k}" for k in range(1, max(2, found.num_classes)))]
    prompts = tuple(getattr(network, "prompts", ()))
    manifest = Manifest.model_validate(
        {
            "system": system,
            "network": dict(found.options),
            "num_classes": found.num_classes,
            "labels": [{"name": n, "value": i} for i, n in enumerate(names)],
            "preprocessing": {
                "image_size": found.image_size,
                "channels": found.in_channels,
                "mean": [found.mean] * found.in_channels,
                "std": [found.std] * found.in_channels,
            },
            "prompts": prompts,
            "recipe": {},
            "data": {},
            "scores": {},
            "parameters": sum(p.numel() for p in network.parameters()),
            "weights_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        }
    )
    return _model_of(manifest)(manifest, network, device=device, precision=precision)


def _guessed(weights: Mapping[str, Tensor]) -> Published:
    """256 px, images scaled to -1..1, classes valued 0, 1, 2 ...

    The channels of the first convolution and of the last layer tell the images' channels and the
    number of classes.

    Raises:
        ValueError: the first convolution takes neither grey nor colour.
    """
    kernels = [w for w in weights.values() if w.ndim == 4]
    if not kernels or kernels[0].shape[1] not in (1, 3):
        raise ValueError("its first layer takes neither 1 nor 3 channels")
    return Published(weights, kernels[0].shape[1], kernels[-1].shape[0])


def _model_of(manifest: Manifest) -> type[Model]:
    if not manifest.prompts:
        return Model
    from medseg.inference.promptable import PromptableModel

    return PromptableModel
