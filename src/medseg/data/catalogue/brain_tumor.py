"""Brain tumour dataset (Cheng, figshare)."""

from medseg.data.catalogue.entry import Citation, Entry, binary

ENTRY = Entry(
    name="brain-tumor",
    title="Brain tumour dataset (Cheng, figshare)",
    modality="MRI",
    organ="brain",
    summary="meningioma, glioma and pituitary tumour in contrast-enhanced T1 slices",
    labels=binary("tumour"),
    images=3064,
    patients=233,
    widths=(256, 512),
    heights=(256, 512),
    licence="CC BY 4.0",
    licence_url="https://doi.org/10.6084/m9.figshare.1512427",
    citation=Citation(
        authors="Cheng, Huang, Cao, Yang, Yang et al.",
        year=2015,
        title=(
            "Enhanced Performance of Brain Tumor Classification via Tumor Region "
            "Augmentation and Partition"
        ),
        venue="PLOS ONE 10(10), e0140381",
        link="https://doi.org/10.1371/journal.pone.0140381",
    ),
    url="https://doi.org/10.6084/m9.figshare.1512427",
    steps=(
        "download and unpack the .mat files (HDF5, cjdata/image, tumorMask, PID, label)",
        (
            "write them as images/0001.png and masks/0001.png, and the patients (PID) "
            "into patients.csv (case, patient): without it slices of one patient stand on"
            " both sides"
        ),
    ),
    layout="folders",
    notes=(
        "cvind.mat has five folds by patient for classification",
        "slices of three planes",
        "copies without PID can only be divided in contiguous blocks",
    ),
    unverified=(
        "images",
        "patients",
        "widths",
        "heights",
        "licence",
        "citation",
        "notes",
    ),
)
