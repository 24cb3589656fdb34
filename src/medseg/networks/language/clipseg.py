"""CLIPSeg (Lüddecke, Ecker 2022, arXiv 2112.10003), through transformers.

CLIP's two towers as they are. What the image tower holds after three of its layers goes through a
small decoder, and the sentence's vector scales and shifts its features once, at the deepest of the
three (FiLM). Only the layers come from transformers; how they follow each other stands here, so that
images need not be square, layers that nothing depends on are not computed, and other networks can
change what lies between.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from safetensors.torch import load_file
from torch import Tensor, nn
from typing_extensions import TypedDict

from medseg.errors import ModelError
from medseg.extras import needed_by
from medseg.networks.language.text_network import TextNetwork
from medseg.networks.language.words import BYTES, Words, read_vocabulary
from medseg.nn.blocks import crop, pad_to_multiple

if TYPE_CHECKING:
    from transformers import CLIPSegConfig

Count = Annotated[int, Field(ge=1)]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, by which published weights want images normalised."""

CONFIGURATION = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class Tower(TypedDict):
    """A transformer: channels, layers, heads, and channels between the two layers of its MLPs."""

    width: Count
    layers: Count
    heads: Count
    hidden: Count


@with_config(ConfigDict(extra="forbid"))
class Size(TypedDict):
    """All numbers that a CLIPSeg is built by.

    ``patch`` is in pixels; ``grid`` is the side of the square of patches that positions are learnt
    for, and are resized from. ``pieces`` of the vocabulary, ``length`` of a sentence in them.
    ``common`` is the width in which images and sentences meet. ``taps`` are the layers of the image
    tower, from 0, that the decoder takes. ``refined``: whether the decoder ends in three
    convolutions rather than in one.
    """

    image: Tower
    text: Tower
    patch: Count
    grid: Count
    pieces: Count
    length: Count
    common: Count
    taps: list[Annotated[int, Field(ge=0)]]
    decoder: Tower
    refined: bool
    activation: Literal["quick_gelu", "gelu"]


PUBLISHED: Size = {
    "image": {"width": 768, "layers": 12, "heads": 12, "hidden": 3072},
    "text": {"width": 512, "layers": 12, "heads": 8, "hidden": 2048},
    "patch": 16,
    "grid": 14,
    "pieces": 49_408,
    "length": 77,
    "common": 512,
    "taps": [3, 6, 9],
    "decoder": {"width": 64, "layers": 3, "heads": 4, "hidden": 2048},
    "refined": True,
    "activation": "quick_gelu",
}
TINY: Size = {
    "image": {"width": 96, "layers": 4, "heads": 4, "hidden": 192},
    "text": {"width": 64, "layers": 4, "heads": 4, "hidden": 128},
    "patch": 8,
    "grid": 8,
    "pieces": BYTES + 2,
    "length": 77,
    "common": 64,
    "taps": [1, 2, 3],
    "decoder": {"width": 64, "layers": 3, "heads": 4, "hidden": 128},
    "refined": False,
    "activation": "quick_gelu",
}
SIZES: Mapping[str, Size] = {"rd64-refined": PUBLISHED, "tiny": TINY}


class CLIPSeg(TextNetwork):
    """Segments what a sentence says.

    Args:
        in_channels: of the image: 3, or 1, which is seen as grey.
        num_classes: 1, what the sentence says.
        weights: the folder of published weights, or one of its files: ``config.json``,
            ``model.safetensors`` or ``pytorch_model.bin``, ``vocab.json`` and ``merges.txt``. They
            say the size.
        size: ``rd64-refined``, which has those published as CLIPSeg rd64-refined; ``tiny``, which
            has none and is trained as a whole, on sentences cut into bytes; or all its numbers.
        frozen: whether the weights stay as they are; ``auto``: those of all sizes but ``tiny``.

    Raises:
        ValueError: other channels or classes, or a size that is none.
        ModelError: the published weights cannot be read.
        MedsegError: transformers is not installed.
    """

    in_unit_range = True

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        *,
        weights: str = "",
        size: Literal["rd64-refined", "tiny"] | Size = "rd64-refined",
        frozen: bool | Literal["auto"] = "auto",
    ) -> None:
        super().__init__()
        if in_channels not in (1, 3):
            raise ValueError(f"in_channels={in_channels}: images are grey or have three colours")
        if num_classes != 1:
            raise ValueError(f"num_classes={num_classes}: structures are segmented one by one")
        if weights and size != "rd64-refined":
            raise ValueError("weights say their size themselves: leave size out")
        found = _Published(Path(weights)) if weights else None
        self.size = found.size if found else SIZES[size] if isinstance(size, str) else size
        self.frozen = size != "tiny" if frozen == "auto" else frozen
        with needed_by("CLIPSeg"):
            from transformers import CLIPSegForImageSegmentation
        self.clipseg: Any = CLIPSegForImageSegmentation(_configuration(self.size))
        self.words = Words(
            self.size["pieces"], self.size["length"], found.vocabulary if found else None
        )
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        if found:
            found.fill(self.clipseg)
        self.clipseg.requires_grad_(not self.frozen)
        for part in self._unused():
            part.requires_grad_(False)

    mean: Tensor
    std: Tensor

    def ask(self, image: Tensor, sentences: Sequence[str]) -> Tensor:
        taps, grid = self.encode_image(image)
        conditions = self.encode_text(sentences)
        logits = [self.decode(taps, each.expand(len(image), -1), grid) for each in conditions]
        return crop(torch.cat(logits, 1), image.shape[2:])

    def forward(self, image: Tensor, texts: Sequence[str] | None = None) -> Tensor:
        texts = [""] * len(image) if texts is None else texts
        if len(texts) != len(image):
            raise ValueError(f"{len(texts)} texts for {len(image)} images")
        taps, grid = self.encode_image(image)
        # Most images of a batch are asked for one of few things.
        different = list(dict.fromkeys(texts))
        which = torch.tensor([different.index(text) for text in texts], device=image.device)
        conditions = self.encode_text(different).index_select(0, which)
        return crop(self.decode(taps, conditions, grid), image.shape[2:])

    def encode_image(self, image: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
        """What the decoder takes of an image.

        Args:
            image: ``(B, 1 or 3, H, W)`` in 0..1.

        Returns:
            After each layer of ``taps`` ``(B, 1 + h * w, width)``, and ``(h, w)``, the patches.
        """
        x = pad_to_multiple(image, self.size["patch"]).expand(-1, 3, -1, -1)
        tower = self.clipseg.clip.vision_model
        states = tower.pre_layrnorm(tower.embeddings((x - self.mean) / self.std))
        taps = []
        for place, layer in enumerate(tower.encoder.layers[: max(self.size["taps"]) + 1]):
            states = _first(layer(states, None))
            if place in self.size["taps"]:
                taps.append(states)
        height, width = x.shape[2:]
        return taps, (height // self.size["patch"], width // self.size["patch"])

    def encode_text(self, sentences: Sequence[str]) -> Tensor:
        """N sentences -> ``(N, common)``."""
        states, _ = self.read(sentences)
        condition: Tensor = self.clipseg.clip.text_projection(states)
        return condition

    def read(self, sentences: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        """What the text tower holds at the end of each of N sentences.

        Returns:
            ``(N, width)`` after all of it, normalised, and ``(N, width)`` after each layer.
        """
        device = self.mean.device
        numbers, ends = (each.to(device) for each in self.words(sentences))
        each = torch.arange(len(numbers), device=device)
        tower = self.clipseg.clip.text_model
        states = tower.embeddings(numbers)
        # Nothing that comes later is seen, so what fills short sentences up is not either.
        later = torch.full((numbers.shape[1],) * 2, -torch.inf, device=device).triu(1)
        mask = later.to(states.dtype)[None, None]
        at_end = []
        for layer in tower.encoder.layers:
            states = _first(layer(states, mask))
            at_end.append(states[each, ends])
        return tower.final_layer_norm(at_end[-1]), at_end

    def decode(self, taps: Sequence[Tensor], condition: Tensor, grid: tuple[int, int]) -> Tensor:
        """Logits ``(B, 1, h * patch, w * patch)``.

        Args:
            taps: of :meth:`encode_image`.
            condition: ``(B, common)``.
            grid: h, w.
        """
        decoder = self.clipseg.decoder
        x: Tensor | None = None
        for place, (layer, reduce) in enumerate(zip(decoder.layers, decoder.reduces, strict=True)):
            reduced = reduce(taps[-1 - place])
            x = reduced if x is None else x + reduced
            if place == 0:
                scale, shift = decoder.film_mul(condition), decoder.film_add(condition)
                x = scale[:, None] * x + shift[:, None]
            x = _first(layer(x, None))
        assert x is not None
        features = x[:, 1:].transpose(1, 2).reshape(len(x), -1, *grid)  # (B, width, h, w)
        logits: Tensor = decoder.transposed_convolution(features)
        return logits

    def portable(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return {**options, "weights": "", "size": self.size, "frozen": self.frozen}

    def _unused(self) -> list[Any]:
        """What no logit depends on."""
        clip = self.clipseg.clip
        layers = clip.vision_model.encoder.layers[max(self.size["taps"]) + 1 :]
        return [layers, clip.vision_model.post_layernorm, clip.visual_projection, clip.logit_scale]


def _first(output: Any) -> Tensor:
    """Of a layer, whichever version of transformers it is of."""
    found: Tensor = output[0] if isinstance(output, tuple) else output
    return found


def _configuration(size: Size) -> CLIPSegConfig:
    """What transformers builds a network of ``size`` by.

    Raises:
        ValueError: heads do not divide a width, or layers that are to be tapped are not there.
    """
    from transformers import CLIPSegConfig

    taps, decoder = size["taps"], size["decoder"]
    for tower in (size["image"], size["text"], decoder):
        if tower["width"] % tower["heads"]:
            raise ValueError(f"width={tower['width']} is not a multiple of heads={tower['heads']}")
    if sorted(set(taps)) != taps or not taps or taps[-1] >= size["image"]["layers"]:
        raise ValueError(f"taps={taps} must be layers of the image tower, in their order")
    if decoder["layers"] != len(taps):
        raise ValueError(f"a decoder of {decoder['layers']} layers does not fit {len(taps)} taps")
    if size["refined"] and size["patch"] != 16:
        raise ValueError(f"patch={size['patch']} must be 16 in a refined decoder")
    return CLIPSegConfig(
        vision_config={
            **_tower(size["image"], size["activation"]),
            "image_size": size["grid"] * size["patch"],
            "patch_size": size["patch"],
        },
        text_config={
            **_tower(size["text"], size["activation"]),
            "vocab_size": size["pieces"],
            "max_position_embeddings": size["length"],
            "bos_token_id": size["pieces"] - 2,
            "eos_token_id": size["pieces"] - 1,
            "pad_token_id": size["pieces"] - 1,
        },
        projection_dim=size["common"],
        extract_layers=taps,
        reduce_dim=decoder["width"],
        decoder_num_attention_heads=decoder["heads"],
        decoder_intermediate_size=decoder["hidden"],
        use_complex_transposed_convolution=size["refined"],
    )


def _tower(tower: Tower, activation: str) -> dict[str, Any]:
    return {
        "hidden_size": tower["width"],
        "num_hidden_layers": tower["layers"],
        "num_attention_heads": tower["heads"],
        "intermediate_size": tower["hidden"],
        "hidden_act": activation,
    }


class _Published:
    """Weights with configuration and vocabulary as they are published.

    Args:
        place: the folder, or a file in it.

    Raises:
        ModelError: there are none, or of another network.
    """

    def __init__(self, place: Path) -> None:
        self.folder = place if place.is_dir() else place.parent
        if not place.exists():
            raise ModelError(
                f"network.weights={place}", "there is no such folder",
                "Name the folder with CLIPSeg's config.json, weights, vocab.json and merges.txt; "
                "nothing is downloaded",
            )  # fmt: skip
        self.size = self._size()
        self.vocabulary = read_vocabulary(self.folder)

    def _size(self) -> Size:
        where = self.folder / CONFIGURATION
        try:
            found = json.loads(where.read_text(encoding="utf-8"))
            if found.get("model_type") != "clipseg":
                raise ValueError(f"it is of {found.get('model_type')!r}, not of 'clipseg'")
            return _size_of(found)
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            reason = _first_error(error) if isinstance(error, ValidationError) else error
            raise ModelError(
                where, f"it is no configuration of CLIPSeg ({reason})",
                f"Put the {CONFIGURATION} there that is published with the weights",
            ) from error  # fmt: skip

    def fill(self, network: nn.Module) -> None:
        """Put the weights into ``network``, every one.

        Raises:
            ModelError: they cannot be read, or are not the network's.
        """
        files = [self.folder / name for name in WEIGHTS]
        where = next((file for file in files if file.is_file()), None)
        if where is None:
            raise ModelError(self.folder, f"it holds no {' or '.join(WEIGHTS)}", "Put one there")
        try:
            if where.suffix == ".bin":
                weights = torch.load(where, map_location="cpu", weights_only=True)
            else:
                weights = load_file(where)
            # Older files hold the numbers of the positions, which are no weights.
            weights = {k: v for k, v in weights.items() if not k.endswith(".position_ids")}
            network.load_state_dict(weights)
        except Exception as error:  # files are anybody's, and torch and safetensors raise their own
            reason = " ".join(str(error).split())[:300]
            raise ModelError(
                where, f"it does not hold the weights of its {CONFIGURATION} ({reason})",
                "Copy it again",
            ) from error  # fmt: skip


def _size_of(found: Mapping[str, Any]) -> Size:
    """What a published ``config.json`` says; what it leaves out is as in transformers.

    Raises:
        ValueError: it is another network.
    """
    from transformers import CLIPSegConfig

    config: Any = CLIPSegConfig(**found)
    image, text = config.vision_config, config.text_config
    if {image.layer_norm_eps, text.layer_norm_eps} != {1e-5} or config.conditional_layer != 0:
        raise ValueError("its layers are normalised or conditioned in another way")
    if image.hidden_act != text.hidden_act:
        raise ValueError("its towers have different activations")
    taps = list(config.extract_layers)
    return TypeAdapter(Size).validate_python(
        {
            "image": _numbers(image),
            "text": _numbers(text),
            "patch": image.patch_size,
            "grid": image.image_size // image.patch_size,
            "pieces": text.vocab_size,
            "length": text.max_position_embeddings,
            "common": config.projection_dim,
            "taps": taps,
            "decoder": {
                "width": config.reduce_dim,
                "layers": len(taps),
                "heads": config.decoder_num_attention_heads,
                "hidden": config.decoder_intermediate_size,
            },
            "refined": config.use_complex_transposed_convolution,
            "activation": image.hidden_act,
        }
    )


def _numbers(tower: Any) -> Tower:
    return {
        "width": tower.hidden_size,
        "layers": tower.num_hidden_layers,
        "heads": tower.num_attention_heads,
        "hidden": tower.intermediate_size,
    }


def _first_error(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
