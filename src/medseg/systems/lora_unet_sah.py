"""Card of low-rank adaptation of U-Nets."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="lora-unet-sah",
    title="LoRA-based methods on Unet for transfer learning in aneurysmal subarachnoid hematoma "
    "segmentation",
    authors="Minoccheri, Hodgman, Ma, Merchant, Wittrup, Williamson, Najarian",
    year=2025,
    reference="https://arxiv.org/abs/2508.01772",
    summary="A U-Net of one kind of bleeding learns another by low-rank updates of its kernels; "
    "any network learns so with --init MODEL --set adapt.lora.rank=4.",
    kind="adaptation",
    network="medseg.networks.images.unet:UNet",
    options={"widths": (32, 64, 128, 256, 512)},
    fidelity=Fidelity(
        parameters=7_765_985,
        official_parameters="not published; of one kernel of O outputs, I inputs and k x k at rank "
        "r: LoRA-C r(I k^2 + O), convLoRA r k (I k + O k), CP-LoRA r(O + I + 2k), the DoRA forms O "
        "more, as ours",
        parity="no code of the authors was found; convLoRA's official layer and ours give the same "
        "output to the bit in float64, merged and not",
        level="properties",
        from_authors=(
            "six schemes: LoRA-C, convLoRA, CP-LoRA, and DoRA-C, convDoRA, CP-DoRA "
            "(adapt.lora.kind, adapt.lora.dora)",
            "ranks above those of the kernel are allowed: they did best",
        ),
        reconstructed=(
            "the U-Net's widths",
            "which factor of CP-LoRA begins as zero (that of the outputs), and the sizes of the "
            "others",
            "LoRA-C unfolds a kernel to outputs by inputs and pixels",
            "learning rates, ranks and epochs",
        ),
        deviations=(
            "kernels of volumes, transposed and grouped convolutions and linear layers are "
            "updated, too",
            "norms and the biases of updated layers are trained; adapt.norms=false and "
            "adapt.biases=false leave them, and then batch norms keep their statistics",
            "one view; the paper's model sees several",
        ),
    ),
)
