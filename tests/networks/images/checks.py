"""What every network owes, asked in one way."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from medseg.export.graph import to_onnx
from medseg.inference.bundle import Manifest, Preprocessing, StoredLabel
from medseg.inference.network import Model
from medseg.inference.runtime import OnnxModel
from medseg.losses.region import cross_entropy, dice_loss
from medseg.models import create_model
from medseg.nn.blocks import count_parameters


def on_meta(make: Any, *args: Any, **options: Any) -> nn.Module:
    """A module without memory for its weights."""
    with torch.device("meta"):
        module: nn.Module = make(*args, **options)
    return module


def fill_with_waves(network: nn.Module) -> nn.Module:
    """Weights of a closed form, the same in every release of PyTorch and on every machine."""
    for index, (name, value) in enumerate(network.state_dict().items()):
        if not value.is_floating_point():
            continue
        wave = torch.sin(torch.arange(value.numel(), dtype=torch.float64) * 0.7 + index)
        if name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
            wave = 1 + 0.2 * wave
        elif value.ndim == 1:
            wave = 0.1 * wave
        else:
            wave = wave * math.sqrt(2 / value[0].numel())
        value.copy_(wave.view(value.shape))
    return network.eval()


@torch.inference_mode()
def golden(network: nn.Module, channels: int = 3, size: tuple[int, int] = (40, 52)) -> list[float]:
    """Mean and standard deviation of the logits and two of them, for weights and image of waves."""
    pixels = channels * size[0] * size[1]
    image = torch.sin(torch.arange(pixels, dtype=torch.float64) * 0.37).float()
    logits = fill_with_waves(network)(image.view(1, channels, *size))
    return [logits.mean().item(), logits.std().item(), *logits[0, 0, 7, 11:13].tolist()]


@torch.inference_mode()
def shape_of_logits(network: nn.Module, *size: int) -> tuple[int, ...]:
    """For an image of noise of ``size``; all finite."""
    logits = network.eval()(torch.randn(*size))
    assert logits.isfinite().all()
    return tuple(logits.shape)


def without_gradient(network: nn.Module, *size: int) -> list[str]:
    """Parameters that the squared logits of noise do not depend on."""
    torch.manual_seed(0)
    network.eval()(torch.randn(*size)).square().sum().backward()
    return [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]


def losses_of_training(network: nn.Module, steps: int = 12) -> list[float]:
    """Cross-entropy and Dice while one batch of noisy disks is learnt; 1 channel, 1 class."""
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    masks = torch.stack([(y - c) ** 2 + (x - 16) ** 2 < 60 for c in (10, 14, 18, 22)])
    images = masks[:, None] + 0.5 * torch.randn(4, 1, 32, 32)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        logits = network.train()(images)
        loss = cross_entropy(logits, masks.byte()) + dice_loss(logits, masks.byte())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def fill_and_normalise(network: nn.Module) -> nn.Module:
    """Weights of waves, and batch norms that have seen noise: values stay of the order of 1."""
    fill_with_waves(network)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    torch.manual_seed(0)
    network.train()(torch.randn(4, 3, 64, 64))
    return network.eval()


def exported(
    system: str,
    size: int,
    *,
    fill: Callable[[nn.Module], nn.Module] = fill_with_waves,
    head: str = "head",
    **options: Any,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Foreground probabilities of noise by PyTorch and by ONNX Runtime; logits spread by 1 about 0.

    The masks of both are asserted to be equal.
    """
    network = fill(create_model(system, in_channels=3, num_classes=1, **options))
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    with torch.no_grad():
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
        network.get_parameter(f"{head}.weight").div_(network((pixels - 0.5) / 0.25).std())
        logits = network((pixels - 0.5) / 0.25).flatten().sort().values
        # In the widest gap about the middle, where rounding cannot change a decision.
        part = logits[len(logits) // 4 : -len(logits) // 4]
        widest = part.diff().argmax()
        network.get_parameter(f"{head}.bias").sub_(part[widest : widest + 2].mean())
    manifest = Manifest(
        system=system,
        network=options,
        num_classes=1,
        labels=(StoredLabel(name="background", value=0), StoredLabel(name="spot", value=255)),
        preprocessing=Preprocessing(image_size=size, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3),
        recipe={},
        data={},
        scores={},
        parameters=count_parameters(network),
        weights_sha256=hashlib.sha256(save(network.state_dict())).hexdigest(),
    )
    model = Model(manifest, network, device="cpu")
    runtime = OnnxModel(manifest, to_onnx(model), threads=1)
    mask = model.predict(image)
    assert set(np.unique(mask)) == {0, 255}
    assert np.array_equal(mask, runtime.predict(image))
    return model.predict_probabilities(image), runtime.predict_probabilities(image)


def traced_difference(network: nn.Module, *sizes: tuple[int, int]) -> float:
    """Largest difference of the logits when traced at 64 x 64 and used at ``sizes``."""
    network.eval()
    kind = next(network.parameters()).dtype
    example = torch.randn(1, 3, 64, 64, dtype=kind)
    traced: Any = torch.jit.trace(network, example, check_trace=False)
    images: list[Tensor] = [torch.randn(2, 3, *size, dtype=kind) for size in sizes]
    with torch.inference_mode():
        return max((traced(x) - network(x)).abs().max().item() for x in images)
