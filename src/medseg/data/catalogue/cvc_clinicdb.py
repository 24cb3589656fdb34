"""CVC-ClinicDB."""

from medseg.data.catalogue.entry import Citation, Entry, binary

ENTRY = Entry(
    name="cvc-clinicdb",
    title="CVC-ClinicDB",
    modality="endoscopy",
    organ="colon",
    summary="polyps in frames of 29 colonoscopy sequences",
    labels=binary("polyp"),
    images=612,
    widths=(384, 384),
    heights=(288, 288),
    licence="research, with citation",
    licence_url="https://polyp.grand-challenge.org/CVCClinicDB/",
    citation=Citation(
        authors="Bernal, Sánchez, Fernández-Esparrach, Gil, Rodríguez, Vilariño",
        year=2015,
        title=(
            "WM-DOVA maps for accurate polyp highlighting in colonoscopy: Validation vs. "
            "saliency maps from physicians"
        ),
        venue="Computerized Medical Imaging and Graphics 43, 99-111",
        link="https://www.sciencedirect.com/science/article/abs/pii/S0895611115000567",
    ),
    url="https://polyp.grand-challenge.org/CVCClinicDB/",
    steps=(
        (
            "ask for access and download it; the dataset is the folder with Original/ and"
            " 'Ground Truth/' (TIFF)"
        ),
    ),
    layout="folders",
    notes=(
        (
            "no published split; PraNet's lists have 550 train and 62 test images, frames"
            " of the same videos in both (see the dataset pranet)"
        ),
        (
            "video frames: neighbours are alike, so a random split leaks. The table of "
            "frames and sequences comes with the set; add it as patients.csv (case, "
            "patient) to keep sequences together, else near-duplicate clusters are all "
            "that keeps them together"
        ),
        "some sources count 31 sequences, the publishers 29",
        "it was the training set of the MICCAI 2015 polyp challenge (EndoVis 2015)",
    ),
    sources=(
        (
            "https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/CVC-ClinicDB.md"
        ),
        (
            "https://github.com/open-mmlab/mmsegmentation/blob/main/projects/medical/2d_image/endoscopy/endovis15/README.md"
        ),
    ),
    unverified=("licence",),
)
