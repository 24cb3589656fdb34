"""Task09_Spleen of the Medical Segmentation Decathlon."""

from medseg.data.catalogue._decathlon import decathlon

ENTRY = decathlon(
    name="msd-task09-spleen",
    folder="Task09_Spleen",
    modality="CT",
    organ="spleen",
    summary="the spleen",
    classes=("spleen",),
    train=41,
    test=20,
    source="MSD_Spleen.md",
    unverified=("labels",),
)
