"""Networks: one file, one architecture; ``(B, C, H, W)`` images to ``(B, K, H, W)`` logits."""
