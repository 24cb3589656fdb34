"""UDIAT, breast ultrasound dataset B."""

from medseg.data.catalogue.entry import Citation, Entry, binary

ENTRY = Entry(
    name="udiat",
    title="UDIAT, breast ultrasound dataset B",
    modality="ultrasound",
    organ="breast",
    summary="benign (110) and malignant (53) lesions",
    labels=binary("lesion"),
    images=163,
    licence="research, on request",
    licence_url="http://www2.docm.mmu.ac.uk/STAFF/M.Yap/dataset.php",
    citation=Citation(
        authors="Yap, Pons, Martí, Ganau, Sentís et al.",
        year=2018,
        title=("Automated Breast Ultrasound Lesions Detection Using Convolutional Neural Networks"),
        venue="IEEE Journal of Biomedical and Health Informatics 22(4), 1218-1226",
        link="https://doi.org/10.1109/JBHI.2017.2731873",
    ),
    url="http://www2.docm.mmu.ac.uk/STAFF/M.Yap/dataset.php",
    steps=("ask the authors for it and unpack it: original/ and GT/",),
    layout="folders",
    notes=("one scanner and one hospital: often the unseen set for models trained on BUSI",),
    sources=(
        (
            "https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/Breast_Ultrasound_DatasetB.md"
        ),
    ),
    unverified=(
        "licence",
        "citation",
    ),
)
