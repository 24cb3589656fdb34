"""Task03_Liver of the Medical Segmentation Decathlon."""

from medseg.data.catalogue._decathlon import decathlon

ENTRY = decathlon(
    name="msd-task03-liver",
    folder="Task03_Liver",
    modality="CT",
    organ="liver",
    summary="liver and tumour",
    classes=(
        "liver",
        "tumour",
    ),
    train=131,
    test=70,
    source="LiTS.md",
    notes=(
        "the same scans as LiTS",
        "large: up to 987 slices a case",
    ),
    unverified=("labels",),
)
