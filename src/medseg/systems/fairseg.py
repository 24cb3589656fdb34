"""Card of FairSeg."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="fairseg",
    title="FairSeg: A Large-Scale Medical Image Segmentation Dataset for Fairness Learning Using "
    "Segment Anything Model with Fair Error-Bound Scaling",
    authors="Tian, Shi, Luo, Kouhana, Elze, Wang",
    year=2023,
    reference="https://arxiv.org/abs/2311.02189",
    summary="The group of patients that is segmented worst counts most in the loss; any network "
    "learns so with method=fairseg.",
    kind="fairness",
    network="medseg.networks.images.unet:UNet",
    options={"widths": (16, 32, 64, 128, 256)},
    recipe={"method": "fairseg"},
    fidelity=Fidelity(
        parameters=1_944_049,
        official_parameters="none of its own: the loss adds no weights; the authors train "
        "TransUNet (91,673,331) and SAMed (91,350,543), which are not built here",
        parity="the loss and its gradient equal those of the official code within 1.1e-07 on 200 "
        "random batches that show every group; with as_released also where one is absent or "
        "unknown. Equity-scaled scores equal those of the official function",
        level="golden",
    ),
)
