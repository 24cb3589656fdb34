"""Task01_BrainTumour of the Medical Segmentation Decathlon."""

from medseg.data.catalogue._decathlon import decathlon

ENTRY = decathlon(
    name="msd-task01-brain-tumour",
    folder="Task01_BrainTumour",
    modality="MRI",
    organ="brain",
    summary="oedema, non-enhancing and enhancing tumour; four sequences in one 4D file",
    classes=(
        "oedema",
        "non-enhancing tumour",
        "enhancing tumour",
    ),
    train=484,
    test=266,
    source="MSD_Brain.md",
    notes=("the same patients as in BraTS 2016 and 2017 under other names",),
    unverified=("labels",),
)
