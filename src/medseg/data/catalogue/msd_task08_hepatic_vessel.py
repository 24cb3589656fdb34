"""Task08_HepaticVessel of the Medical Segmentation Decathlon."""

from medseg.data.catalogue._decathlon import decathlon

ENTRY = decathlon(
    name="msd-task08-hepatic-vessel",
    folder="Task08_HepaticVessel",
    modality="CT",
    organ="liver",
    summary="hepatic vessels and tumour",
    classes=(
        "vessel",
        "tumour",
    ),
    train=303,
    test=140,
    source="MSD_Hepatic_Vessel.md",
    unverified=("labels",),
)
