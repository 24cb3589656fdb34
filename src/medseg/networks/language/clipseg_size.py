"""Sizes of CLIPSeg, and what transformers calls them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from medseg.networks.language.words import BYTES

if TYPE_CHECKING:
    from transformers import CLIPSegConfig

Count = Annotated[int, Field(ge=1)]


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


def configuration(size: Size) -> CLIPSegConfig:
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


def size_of(found: Mapping[str, Any]) -> Size:
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
