"""Task10_Colon of the Medical Segmentation Decathlon."""

from medseg.data.catalogue._decathlon import decathlon

ENTRY = decathlon(
    name="msd-task10-colon",
    folder="Task10_Colon",
    modality="CT",
    organ="colon",
    summary="primary colon cancer",
    classes=("tumour",),
    train=126,
    test=64,
    source="MSD_Colon_Cancer.md",
    unverified=("labels",),
)
