"""Montgomery County chest X-ray set."""

from medseg.data.catalogue.entry import Citation, Entry, binary

ENTRY = Entry(
    name="montgomery",
    title="Montgomery County chest X-ray set",
    modality="X-ray",
    organ="lung",
    summary="left and right lung; 80 normal, 58 with tuberculosis",
    labels=binary("lung"),
    images=138,
    patients=138,
    widths=(4020, 4892),
    heights=(4020, 4892),
    licence="public, with citation of the source",
    licence_url="https://lhncbc.nlm.nih.gov/LHC-downloads/downloads.html#tuberculosis-image-data-sets",
    citation=Citation(
        authors="Jaeger, Candemir, Antani, Wáng, Lu, Thoma",
        year=2014,
        title=(
            "Two public chest X-ray datasets for computer-aided screening of pulmonary diseases"
        ),
        venue="Quantitative Imaging in Medicine and Surgery 4(6), 475-477",
        link="https://www.ncbi.nlm.nih.gov/pmc/articles/PMC4256233/",
    ),
    url="https://openi.nlm.nih.gov/imgs/collections/NLM-MontgomeryCXRSet.zip",
    steps=(
        "unpack it: CXR_png/, ManualMask/leftMask/ and ManualMask/rightMask/",
        (
            "unite the lungs in a manifest.csv: (echo image,mask; ls CXR_png | sed "
            "'s#.*#CXR_png/&,ManualMask/leftMask/&|ManualMask/rightMask/&#') > "
            "manifest.csv"
        ),
    ),
    layout="manifest",
    notes=("very large images: 20 megapixels each",),
    sources=(
        (
            "https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/MontgomeryCounty.md"
        ),
        (
            "https://github.com/constantinpape/torch-em/blob/main/torch_em/data/datasets/medical/montgomery.py"
        ),
    ),
    unverified=(
        "licence",
        "patients",
    ),
)
