"""Task02_Heart of the Medical Segmentation Decathlon."""

from medseg.data.catalogue._decathlon import decathlon

ENTRY = decathlon(
    name="msd-task02-heart",
    folder="Task02_Heart",
    modality="MRI",
    organ="heart",
    summary="the left atrium",
    classes=("left atrium",),
    train=20,
    test=10,
    source="MSD_Cardiac.md",
    unverified=("labels",),
)
