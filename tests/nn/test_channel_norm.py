from __future__ import annotations

import torch

from medseg.nn.channel_norm import ChannelNorm


def test_a_channel_norm_has_mean_0_and_variance_1_at_each_pixel() -> None:
    out = ChannelNorm(32)(5 + 3 * torch.randn(2, 32, 4, 5))
    torch.testing.assert_close(out.mean(1), torch.zeros(2, 4, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(1, correction=0), torch.ones(2, 4, 5), atol=1e-4, rtol=0)
