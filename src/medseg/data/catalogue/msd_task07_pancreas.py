"""Task07_Pancreas of the Medical Segmentation Decathlon."""

from medseg.data.catalogue._decathlon import decathlon

ENTRY = decathlon(
    name="msd-task07-pancreas",
    folder="Task07_Pancreas",
    modality="CT",
    organ="pancreas",
    summary="pancreas and tumour",
    classes=(
        "pancreas",
        "tumour",
    ),
    train=281,
    test=139,
    source="MSD_Pancreas_Tumour.md",
    unverified=("labels",),
)
