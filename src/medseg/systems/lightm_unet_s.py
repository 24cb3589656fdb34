"""Card of LightM-UNet of half the width."""

from medseg.systems.card import Card, Fidelity
from medseg.systems.lightm_unet import CARD as WIDE

CARD = Card(
    name="lightm-unet-s",
    title=WIDE.title,
    authors=WIDE.authors,
    year=WIDE.year,
    reference=WIDE.reference,
    summary="LightM-UNet with half the channels, near the size that the paper states.",
    family="lightm-unet",
    dims=WIDE.dims,
    network=WIDE.network,
    options={"width": 16},
    measured={"ph2": "results/lightm-ph2.json"},
    fidelity=Fidelity(
        parameters=1_342_948,
        official_parameters=(
            "1,342,915 for 1 channel and 2 logits (official code with init_filters 16); no "
            "published result is of this width"
        ),
        parity="as lightm-unet, of which it is a preset",
        level="parity",
        from_authors=WIDE.fidelity.from_authors[1:],
        reconstructed=("the width, chosen here",),
        deviations=WIDE.fidelity.deviations,
    ),
)
