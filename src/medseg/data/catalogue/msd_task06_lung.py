"""Task06_Lung of the Medical Segmentation Decathlon."""

from medseg.data.catalogue._decathlon import decathlon

ENTRY = decathlon(
    name="msd-task06-lung",
    folder="Task06_Lung",
    modality="CT",
    organ="lung",
    summary="tumours of non-small-cell lung cancer",
    classes=("tumour",),
    train=63,
    test=None,
    source="MSD_Lung_Tumours.md",
    notes=(
        "64 are announced, 63 can be downloaded",
        "tiny targets: most slices are empty",
    ),
    unverified=("labels",),
)
