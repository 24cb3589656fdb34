"""Card of LV-UNet."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="lv-unet",
    title="LV-UNet: A Lightweight and Vanilla Model for Medical Image Segmentation",
    authors="Jiang, Wang, Tian, Cheng, Liu",
    year=2024,
    reference="https://arxiv.org/abs/2408.16886",
    summary="MobileNetV3's first blocks, then a U of 1x1 convolutions and series activations.",
    network="medseg.networks.images.lv_unet:LVUNet",
    fidelity=Fidelity(
        parameters=934_545,
        official_parameters=(
            "934,545 (github.com/juntaoJianggavin/LV-UNet at 9bc9436, no licence; its MobileNetV3 "
            "blocks, which are torchvision's, counted of timm 1.0.19)"
        ),
        parity=(
            "the official module with timm's MobileNetV3 blocks and torchvision's batch norm (eps "
            "1e-3), its weights, eval mode, noise of 128 x 256 and 256 x 256, slopes 0, 0.4 and 1: "
            "the same bits in fp32 and fp64; fused, of logits up to 17,382, at most 7.8e-11 apart "
            "in fp64 (both 513,585 parameters)"
        ),
        level="parity",
        from_authors=(
            "the whole network, read in the official code; of the paper only the abstract and "
            "summaries by others were at hand",
            "slope 0, which the official code trains with unless told otherwise",
        ),
        reconstructed=(
            "a fresh encoder, which the official code does not have: convolutions N(0, 2 / "
            "fan-out), biases 0",
        ),
        deviations=(
            "the encoder is not pre-trained on ImageNet; the authors' is",
            "trained without the paper's deep training strategy (the slope grows from 0 to 1 while "
            "training goes on), and so not fused for use; set_slope() and fuse() are there for "
            "loops of one's own, as they are in the official code",
            "sizes that 128 does not divide are padded with their last row and column",
            "trained by this project's recipe, not by the authors' (Adam, 1e-3, cosine to "
            "1e-5, 300 epochs, batch 8, 256 pixels)",
        ),
    ),
)
