"""Card of VLSM-Adapter."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="vlsm-adapter",
    title="VLSM-Adapter: Finetuning Vision-Language Segmentation Efficiently with Lightweight "
    "Blocks",
    authors="Dhakal, Adhikari, Thapaliya, Khanal",
    year=2024,
    reference="https://arxiv.org/abs/2405.06196",
    summary="CLIPSeg, which segments what a sentence says, refined for medical images by small "
    "bottlenecks beside its frozen layers.",
    kind="text-driven",
    prompts=("text",),
    network="medseg.networks.language.vlsm_adapter:VLSMAdapter",
    recipe={
        "method": "text-driven",
        "data.image_size": 352,
        "augment.enabled": False,
        "loss.dice": 1.5,
        "loss.cross_entropy": 1.0,
        "optimizer.learning_rate": 1e-3,
        "optimizer.weight_decay": 1e-3,
        "train.epochs": 200,
        "train.batch_size": 32,
        "train.patience": 20,
        "train.clip_norm": 0.5,
    },
    fidelity=Fidelity(
        parameters=153_722_210,
        official_parameters="trained, of dense adapters 1,784,448 (v), 2,974,464 (vl) and "
        "3,237,376 (vlc), of shallow ones 2,363,136, 3,939,072 and 4,201,984; CLIPSeg rd64-refined has "
        "150,747,746 (official code); ours have the same",
        parity="logits equal to 1e-14 in double precision to those of the official code, for both "
        "places and all parts, with random weights in a small CLIPSeg; without adapters, equal to "
        "the last bit to transformers' CLIPSeg",
        level="parity",
    ),
)
