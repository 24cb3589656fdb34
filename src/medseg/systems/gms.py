"""Card of Generative Medical Segmentation."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="gms",
    title="Generative Medical Segmentation",
    authors="Huo, Ouyang, Ourselin, Sparks",
    year=2024,
    reference="https://arxiv.org/abs/2403.18198",
    summary="Maps an image's code to its mask's code; a frozen decoder draws the mask.",
    kind="generative",
    network="medseg.networks.generative.gms:GMS",
    recipe={"method": "gms"},
    measured={"ph2": "results/gms-ph2.json"},
    fidelity=Fidelity(
        parameters=1_844_507,
        official_parameters=(
            "1,564,976 of the mapping (official code), as ours; 83,653,863 of the frozen "
            "autoencoder of Stable Diffusion, which network.autoencoder=stable-diffusion takes "
            "through diffusers"
        ),
        parity=(
            "the official mapping's weights and a code of noise: all four levels at most 2.0e-05 "
            "apart in fp32 (codes up to 7.9), 1e-15 in fp64; the whole with published weights was "
            "not run"
        ),
        level="golden",
        from_authors=(
            "the mapping network; mean squared error of codes and Dice loss of decoded masks at "
            "three levels, weighed alike, with gradients through the frozen decoder",
            "image codes drawn from their distribution with probability 1/2; probability is the "
            "brightness of the decoded mask",
        ),
        reconstructed=(
            "a small autoencoder, so that no download is needed: it learns from the training "
            "part's images and masks during the first quarter of the steps, and is then frozen; "
            "in the short trainings measured, the true masks' codes gave the masks back with a "
            "Dice of 0.95 and 0.87 only",
            "several classes: each has a code of its own; the paper's tasks are binary",
        ),
        deviations=(
            "drawn codes have a deviation scaled as their mean is; the released code does not "
            "scale it (method_options.as_released=true)",
            "with probability 1/2 for each image, where the released code decides for a batch",
            "trained by this project's recipe, not by the authors' (AdamW, 2e-3, 1000 epochs, "
            "224 px); the test part chooses no model, as it does there",
        ),
    ),
)
