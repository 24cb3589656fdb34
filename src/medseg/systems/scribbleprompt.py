"""Card of ScribblePrompt."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="scribbleprompt",
    title="ScribblePrompt: Fast and Flexible Interactive Segmentation for Any Biomedical Image",
    authors="Wong, Rakic, Guttag, Dalca",
    year=2023,
    reference="https://arxiv.org/abs/2312.07381",
    summary="A small U-Net that segments what clicks, boxes and scribbles point at, and corrects "
    "itself with more of them.",
    kind="promptable",
    prompts=("point", "box", "scribble", "mask"),
    network="medseg.networks.promptable.scribbleprompt:ScribblePromptUNet",
    recipe={"data.channels": 1, "data.image_size": 128},
    fidelity=Fidelity(
        parameters=3_995_338,
        official_parameters="3,991,882 for grey images (official code), and so has ours; colour "
        "images have 3,456 more",
        parity="logits equal to the last bit to those of the official code, for its encoding of "
        "clicks, boxes, scribbles and earlier mask, with random weights",
        level="parity",
    ),
)
