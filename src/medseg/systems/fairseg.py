"""Card of FairSeg."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="fairseg",
    title="FairSeg: A Large-Scale Medical Image Segmentation Dataset for Fairness Learning Using "
    "Segment Anything Model with Fair Error-Bound Scaling",
    authors="Tian, Shi, Luo, Kouhana, Elze, Wang",
    year=2023,
    reference="https://arxiv.org/abs/2311.02189",
    summary="A Dice loss scaled by how well each group of patients is segmented; any network "
    "learns so with method=fairseg, from a manifest with a column group:NAME.",
    kind="fairness",
    network="medseg.networks.images.unet:UNet",
    options={"widths": (16, 32, 64, 128, 256)},
    recipe={"method": "fairseg"},
    measured={"dsb2018": "results/fairseg-dsb2018.json"},
    fidelity=Fidelity(
        parameters=1_944_049,
        official_parameters="none of its own: the loss adds no weights; the authors train "
        "TransUNet (91,673,331) and SAMed (91,350,543), which are not built here",
        parity="the loss and its gradient equal those of the official code within 1.1e-07 on 200 "
        "random batches that show every group; with as_released also where one is absent or "
        "unknown. Equity-scaled scores equal those of the official function",
        level="golden",
        from_authors=(
            "the loss: batch-wide Dice over all classes, squared in the denominator; weights "
            "tanh((min L / L_g)^gamma) with gamma 1 on the probabilities, without a gradient; half "
            "of the loss beside the cross-entropy, as for TransUNet (0.8 for SAMed: "
            "method_options.fair_weight)",
            "equity-scaled Dice and IoU, with alpha 1",
        ),
        deviations=(
            "a group that is not in a batch has no say in it; in the released code its loss is 0, "
            "so that all weights and the gradient are 0 (method_options.as_released=true)",
            "cases of unknown group get the weight of the best group; in the released code, of the "
            "last group (as_released)",
            "equity-scaled scores are over the cases of known group, so that equal groups keep the "
            "mean; the released code's mean is over all cases",
            "where truth and prediction are empty a case counts as the empty policy says, 1 by "
            "default; in the released code as 0, and a false alarm as 1",
            "TransUNet and SAMed are not built: the card's network is a narrow U-Net, trained from "
            "scratch with the project's recipe; the authors refine plain networks for 5 epochs "
            "(--init RUN --epochs 5)",
            "over several processes the groups of each process's share of a batch are compared",
            "method_options.scaled=losses is not theirs: weights multiply the losses of groups, "
            "each of which counts once whatever its size",
        ),
        reproduced="not at this size: nuclei at 64 px, a tenth of 200 training images with "
        "inverted contrast, 360 steps, 3 seeds: the published scaling lowers the minority's test "
        "Dice by 0.28 (0.26 to 0.29) against the same loss with gamma 0, and by 0.01 where it "
        "refines a plain network for 5 epochs; a smaller weight on probabilities also shrinks "
        "their gradient. With scaled=losses the minority gains 0.29 (0.28 to 0.31) on the plain "
        "losses (0.10 to 0.68 by seed), and the majority loses 0.02; gamma 0 gains as much, so "
        "it is counting each group once that pays, not the scaling",
    ),
)
