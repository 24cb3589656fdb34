from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.nn.selective_scan import recurrence, selective_scan

SIZES = st.tuples(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(1, 4), st.integers(1, 40)
)


def problem(
    sizes: tuple[int, int, int, int, int], optional: set[str], *, dtype: torch.dtype = torch.float64
) -> dict[str, Tensor]:
    """Of batch, channels of a group, groups, states and length; waves, so that digits stay."""
    batch, each, groups, states, length = sizes
    channels = each * groups
    shapes = {
        "u": (batch, channels, length),
        "delta": (batch, channels, length),
        "a": (channels, states),
        "b": (batch, groups, states, length),
        "c": (batch, groups, states, length),
        "d": (channels,),
        "z": (batch, channels, length),
        "delta_bias": (channels,),
        "state": (batch, channels, states),
    }
    made = {}
    for index, (name, shape) in enumerate(shapes.items()):
        places = torch.arange(math.prod(shape), dtype=torch.float64)
        values = torch.sin(places * (0.7 + 0.13 * index) + index).view(shape)
        if name == "a":
            values = -0.1 - values.abs()
        if name == "delta":
            values = values.abs()
        if index < 5 or name in optional:
            made[name] = values.to(dtype).requires_grad_()
    return made


def by_definition(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    delta_softplus: bool = False,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Channel by channel and step by step, as the paper's code defines it."""
    if delta_bias is not None:
        delta = delta + delta_bias[:, None]
    if delta_softplus:
        delta = F.softplus(delta)
    share = u.shape[1] // b.shape[1]
    rows, lasts = [], []
    for i in range(u.shape[1]):
        h = torch.zeros(u.shape[0], a.shape[1], dtype=u.dtype) if state is None else state[:, i]
        row = []
        for t in range(u.shape[2]):
            moved = (delta[:, i, t] * u[:, i, t])[:, None] * b[:, i // share, :, t]
            h = torch.exp(delta[:, i, t, None] * a[i]) * h + moved
            row.append((c[:, i // share, :, t] * h).sum(-1))
        rows.append(torch.stack(row, -1))
        lasts.append(h)
    y = torch.stack(rows, 1)
    y = y if d is None else y + d[:, None] * u
    return (y if z is None else y * F.silu(z)), torch.stack(lasts, 1)


def with_gradients(scan: Any, parts: dict[str, Tensor], **options: Any) -> list[Tensor]:
    y, last = scan(**parts, **options)
    weights = torch.cos(torch.arange(y.numel(), dtype=y.dtype)).view(y.shape)
    total = (y * weights).sum() + last.square().sum()
    return [y, last, *torch.autograd.grad(total, list(parts.values()))]


@settings(deadline=None, max_examples=40)
@given(
    sizes=SIZES,
    optional=st.sets(st.sampled_from(["d", "z", "delta_bias", "state"])),
    softplus=st.booleans(),
    chunk=st.integers(1, 50),
    segments=st.none() | st.integers(1, 7),
)
def test_outputs_last_states_and_all_gradients_are_those_of_the_recurrence(
    sizes: tuple[int, int, int, int, int],
    optional: set[str],
    softplus: bool,
    chunk: int,
    segments: int | None,
) -> None:
    parts = problem(sizes, optional)
    expected = with_gradients(by_definition, parts, delta_softplus=softplus)
    found = with_gradients(
        selective_scan, parts, delta_softplus=softplus, chunk=chunk, segments=segments
    )
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_numbers_of_the_authors_reference_are_kept() -> None:
    parts = problem((2, 2, 2, 3, 33), {"d", "z", "delta_bias"}, dtype=torch.float32)
    y, last, du, ddelta, da, *_ = with_gradients(selective_scan, parts, delta_softplus=True)
    found = [y[0, 1, 5], y[1, 3, 32], last[1, 2, 0], du[0, 3, 7], ddelta[1, 0, 20], da[2, 1]]
    assert [each.item() for each in found] == pytest.approx(GOLDEN, rel=2e-5)


# state-spaces/mamba e9594ce, selective_scan_ref, in double precision.
GOLDEN = [0.373629869, 0.198600824, 0.220303810, 0.408836111, -0.0609321838, 0.878231132]


def test_a_constant_input_decays_as_the_geometric_series_says() -> None:
    ones = torch.ones(1, 1, 50, dtype=torch.float64)
    states = torch.ones(1, 1, 4, 50, dtype=torch.float64)
    y, _ = selective_scan(ones, 0.1 * ones, -torch.ones(1, 4, dtype=torch.float64), states, states)
    t = torch.arange(1, 51, dtype=torch.float64)
    expected = 4 * 0.1 * (1 - torch.exp(-0.1 * t)) / (1 - math.exp(-0.1))
    torch.testing.assert_close(y[0, 0], expected)


def test_what_comes_later_changes_nothing_before() -> None:
    parts = {k: v.detach() for k, v in problem((1, 4, 1, 3, 40), set()).items()}
    later = {k: v.clone() for k, v in parts.items()}
    for name in ("u", "delta", "b", "c"):
        later[name][..., 25:] += 1
    y, changed = selective_scan(**parts)[0], selective_scan(**later)[0]
    assert torch.equal(y[..., :25], changed[..., :25])
    assert not torch.equal(y[..., 25:], changed[..., 25:])


def test_a_sequence_in_two_pieces_gives_what_it_gives_whole() -> None:
    parts = {k: v.detach() for k, v in problem((2, 4, 2, 3, 40), {"state"}).items()}
    y, last = selective_scan(**parts)
    along = ("u", "delta", "b", "c")
    first, state = selective_scan(**{k: v[..., :17] if k in along else v for k, v in parts.items()})
    rest = {k: v[..., 17:] if k in along else v for k, v in parts.items()} | {"state": state}
    second, end = selective_scan(**rest)
    torch.testing.assert_close(torch.cat([first, second], -1), y)
    torch.testing.assert_close(end, last)


def test_gradients_are_right_by_finite_differences() -> None:
    parts = problem((1, 2, 1, 2, 7), {"d", "z", "delta_bias", "state"})

    def scan(*values: Tensor) -> tuple[Tensor, Tensor]:
        return selective_scan(
            **dict(zip(parts, values, strict=True)), delta_softplus=True, chunk=3, segments=2
        )

    assert torch.autograd.gradcheck(scan, tuple(parts.values()))


def test_halves_are_scanned_in_single_precision_and_come_back_as_halves() -> None:
    parts = {k: v.detach() for k, v in problem((1, 4, 1, 3, 200), set()).items()}
    halves = {k: v.bfloat16() for k, v in parts.items()}
    with torch.autocast("cpu", torch.bfloat16):
        y, last = selective_scan(**halves)
    expected, _ = selective_scan(**{k: v.float() for k, v in halves.items()})
    assert y.dtype == torch.bfloat16
    assert last.dtype == torch.float32
    assert torch.equal(y, expected.bfloat16())


def test_states_of_all_steps_are_never_held_together() -> None:
    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            out = func(*args, **(kwargs or {}))
            for each in out if isinstance(out, tuple | list) else (out,):
                if isinstance(each, Tensor):
                    self.numbers = max(self.numbers, each.numel())
            return out

    parts = problem((1, 32, 1, 16, 256), set(), dtype=torch.float32)
    with Largest() as mode:
        selective_scan(**parts, chunk=16, segments=1)[0].sum().backward()
    assert mode.numbers == (1 + 16) * 32 * 16


def test_a_trace_scans_sequences_of_other_lengths() -> None:
    class Scan(nn.Module):
        def forward(self, u: Tensor, b: Tensor) -> Tensor:
            rates = -torch.ones(u.shape[1], b.shape[2])
            return selective_scan(u, u, rates, b, b, delta_softplus=True)[0]

    def example(batch: int, length: int) -> tuple[Tensor, Tensor]:
        return torch.randn(batch, 6, length), torch.randn(batch, 2, 3, length)

    module = Scan()
    torch.manual_seed(0)
    with warnings.catch_warnings():
        # Of the check that shapes fit, which holds at every length.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        traced: Any = torch.jit.trace(module, example(1, 9), check_trace=False)
    for batch, length in ((1, 4), (3, 70)):
        inputs = example(batch, length)
        torch.testing.assert_close(traced(*inputs), module(*inputs))


def test_the_recurrence_that_traces_use_is_the_definition() -> None:
    parts = {k: v.detach() for k, v in problem((2, 3, 2, 4, 11), set()).items()}
    groups = (2, 2, 3, 11)
    rates = parts["a"].view(2, 3, 4).transpose(1, 2)
    y, _ = recurrence(
        parts["delta"].view(groups),
        (parts["delta"] * parts["u"]).view(groups),
        rates,
        parts["b"],
        parts["c"],
        torch.zeros(2, 2, 4, 3, dtype=torch.float64),
    )
    torch.testing.assert_close(y.reshape(2, 6, 11), by_definition(**parts)[0])


def test_an_exported_graph_gives_the_same_numbers() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from medseg.export.graph import network_to_onnx

    class Scan(nn.Module):
        def forward(self, u: Tensor) -> Tensor:
            rates = -torch.arange(1.0, 13.0).view(4, 3)
            b = u[:, :3].unsqueeze(1)
            return selective_scan(u, u, rates, b, b.flip(2), delta_softplus=True)[0]

    u = torch.sin(torch.arange(2 * 4 * 30.0)).view(2, 4, 30)
    session = onnxruntime.InferenceSession(network_to_onnx(Scan(), u))
    (found,) = session.run(None, {"image": u.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), Scan()(u), atol=1e-5, rtol=1e-5)


def test_shapes_that_do_not_fit_are_an_error_that_shows_them() -> None:
    parts = {k: v.detach() for k, v in problem((1, 2, 2, 3, 5), set()).items()}
    with pytest.raises(ValueError, match=r"\(3, 4\).*G divides D"):
        selective_scan(**{**parts, "a": parts["a"].T})
