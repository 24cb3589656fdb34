"""M&Ms."""

from medseg.data.case import Label
from medseg.data.catalogue.entry import Citation, Entry

ENTRY = Entry(
    name="m-and-ms",
    title="M&Ms",
    modality="MRI",
    organ="heart",
    summary="left ventricle, myocardium and right ventricle of six centres and four vendors",
    labels=(
        Label("background", 0),
        Label("left ventricle", 1),
        Label("myocardium", 2),
        Label("right ventricle", 3),
    ),
    images=None,
    unit="volumes",
    patients=375,
    licence="CC BY-NC-SA 4.0",
    licence_url="https://www.ub.edu/mnms/",
    citation=Citation(
        authors="Campello, Gkontra, Izquierdo, Martín-Isla, Sojoudi et al.",
        year=2021,
        title=(
            "Multi-Centre, Multi-Vendor and Multi-Disease Cardiac Segmentation: The M&Ms Challenge"
        ),
        venue="IEEE Transactions on Medical Imaging 40(12), 3543-3554",
        link="https://doi.org/10.1109/TMI.2021.3090082",
    ),
    url="https://www.ub.edu/mnms/",
    steps=(
        (
            "register, download and unpack it: a folder for each patient with "
            "NAME_sa.nii.gz and NAME_sa_gt.nii.gz"
        ),
        (
            "the images are 4D films of which two phases are labelled (the CSV file says "
            "which): write those two phases as 3D files first, NAME_ED.nii.gz with "
            "NAME_ED_gt.nii.gz"
        ),
    ),
    layout="folders",
    group_pattern=r"([A-Z]\d[A-Z]\d[A-Z]\d)",
    notes=(
        ("folders: 150 labelled and 25 unlabelled training patients, then validation and testing"),
        "labels are numbered otherwise than in ACDC: there 1 is the right ventricle",
        ("made for testing on unseen vendors: put the vendor of the CSV file into a manifest"),
    ),
    sources=(
        ("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/M&Ms.md"),
    ),
    unverified=(
        "labels",
        "images",
        "licence",
        "citation",
        "notes",
    ),
)
