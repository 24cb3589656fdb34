"""Task05_Prostate of the Medical Segmentation Decathlon."""

from medseg.data.catalogue._decathlon import decathlon

ENTRY = decathlon(
    name="msd-task05-prostate",
    folder="Task05_Prostate",
    modality="MRI",
    organ="prostate",
    summary="peripheral and transition zone; T2 and ADC in one 4D file",
    classes=(
        "peripheral zone",
        "transition zone",
    ),
    train=32,
    test=16,
    source="MSD_Prostate.md",
    notes=("two cases have no peripheral zone",),
    unverified=("labels",),
)
