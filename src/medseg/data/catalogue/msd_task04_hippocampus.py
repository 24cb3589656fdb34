"""Task04_Hippocampus of the Medical Segmentation Decathlon."""

from medseg.data.catalogue._decathlon import decathlon

ENTRY = decathlon(
    name="msd-task04-hippocampus",
    folder="Task04_Hippocampus",
    modality="MRI",
    organ="brain",
    summary="anterior and posterior hippocampus, cropped",
    classes=(
        "anterior",
        "posterior",
    ),
    train=260,
    test=None,
    source="MSD_Hippocampus.md",
    notes=("small crops of about 35 x 50 x 36 mm",),
)
