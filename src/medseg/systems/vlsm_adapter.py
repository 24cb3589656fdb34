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
    measured={"wbc": "results/vlsm-words.json", "dsb2018": "results/vlsm-adapters.json"},
    fidelity=Fidelity(
        parameters=153_722_210,
        official_parameters="trained, of dense adapters 1,784,448 (v), 2,974,464 (vl) and "
        "3,237,376 (vlc), of shallow ones 2,363,136, 3,939,072 and 4,201,984; CLIPSeg has "
        "150,747,746 (official code); ours have the same",
        parity="logits equal to 1e-14 in double precision to those of the official code, for both "
        "places and all parts, with random weights in a small CLIPSeg; without adapters, equal to "
        "the last bit to transformers' CLIPSeg",
        level="parity",
        from_authors=(
            "an adapter is x + ReLU(up(ReLU(down(x)))) with biases, initialised as layers are",
            "dense: 64 wide, after the attention and the MLP of the first 9 layers of both towers, "
            "before what went in is added; of the layers that the decoder takes, the deepest has "
            "none",
            "shallow: 512 wide, on what the decoder takes; the text tower's states after layers 3, "
            "6 and 9 go through adapters and are added to the sentence's vector. These adapters "
            "begin by adding the states themselves, so that training does not begin at CLIPSeg",
            "all of CLIPSeg stays as it is, its decoder, too; images of 352 pixels, normalised as "
            "for ImageNet, no augmentation",
            "dense adapters of both towers (vl), the 3 million weights of the paper's table; a "
            "rate of 1e-3, for shallow ones 3e-4 (optimizer.learning_rate)",
            "Dice with weight 1.5 and cross-entropy, AdamW with decay 1e-3, 32 images a step, "
            "gradients clipped at 0.5, at most 200 epochs, 20 without improvement",
            "a sentence drawn at random for each image",
        ),
        reconstructed=(
            "a class is called by its name where nobody says more; the authors' sentences, made of "
            "masks and of answers to questions about the image, are not there (prompts.json takes "
            "them)",
            "of several structures in an image one is drawn in each step; the authors list each "
            "as an image of its own",
        ),
        deviations=(
            "the cross-entropy is of logits; the authors' code takes probabilities for logits "
            "(method_options.as_released=true)",
            "the rate warms up and falls as a cosine, where the authors lower it by 0.3 after 5 "
            "epochs without improvement; biases do not decay; a slow decay of weights averages "
            "them",
            "validation and prediction ask for every class by its first sentence, and a pixel goes "
            "to the likeliest above a half",
            "sentences are as long as the longest of them, not 77 pieces: what comes after an end "
            "is seen by nothing before it",
            "CRIS and the side adapter network, with which the paper compares, are not there",
        ),
        reproduced="none of the paper's tables: the published weights of CLIPSeg have not been "
        "available to these tests, which read small files in their layout. That words select: "
        "a tiny CLIPSeg trained on 240 cells, asked for the nucleus, has Dice 0.94 with "
        "the nucleus and 0.06 with the cytoplasm, asked for the cytoplasm 0.06 and 0.87; with one "
        "sentence for both, 0.60 and 0.63. That adapters pay is not reproduced: beside this frozen "
        "network they have Dice 0.47 on 66 images of dsb2018 after 80, where it has 0.05, but all "
        "its weights refined have 0.68, and from scratch 0.63",
    ),
)
