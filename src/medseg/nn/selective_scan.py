"""The selective scan of state-space models (S6), in plain PyTorch.

Gu, Dao (2023), "Mamba: linear-time sequence modeling with selective state spaces",
arXiv 2312.00752. With ``A`` negative and step sizes ``d`` that depend on the input,

    h_t = exp(d_t A) h_{t-1} + d_t u_t B_t        y_t = C_t h_t

for every channel by itself. ``B`` is discretised by Euler's rule, as in the authors' code; the
paper prints a zero-order hold.

Nothing of size channels x states x length is ever made. The sequence is cut into chunks; a chunk's
first state is kept, and its other states are computed again when gradients are. Where the states
are too small to keep the device busy, a chunk is cut into segments that advance side by side: once
from zero, which tells where each of them starts, and once more from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

CHUNK = 64
"""Steps of whose states are held at a time when gradients are computed."""

_FEW = {"cpu": 2048, "cuda": 1 << 18}
_ENOUGH = {"cpu": 16_384, "cuda": 1 << 20}


def selective_scan(
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
    chunk: int = CHUNK,
    segments: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Scan a batch of sequences, in single precision at least.

    Args:
        u: input, ``(B, D, L)``.
        delta: step sizes, ``(B, D, L)``.
        a: decay rates, ``(D, N)``, negative.
        b: what of the input enters each state, ``(B, G, N, L)``; channel ``i`` belongs to group
            ``i // (D / G)``.
        c: what of each state leaves, likewise.
        d: ``(D,)``; ``d u`` is added to the output.
        z: gate, ``(B, D, L)``; the output is multiplied by ``SiLU(z)``.
        delta_bias: ``(D,)``, added to ``delta``.
        delta_softplus: whether the softplus of ``delta`` (with its bias) is the step size.
        state: before the first step, ``(B, D, N)``; default: zero.
        chunk: steps whose states are held at a time while gradients are computed.
        segments: of a chunk, side by side; default: one where the states are many, else as many as
            keep the device busy.

    Returns:
        The output, ``(B, D, L)`` in the type of ``u``, and the state after the last step.

    Raises:
        ValueError: shapes that do not fit.
    """
    batch, channels, length = u.shape
    groups, states = b.shape[1:3]
    if channels % groups or c.shape != b.shape or a.shape != (channels, states):
        raise ValueError(
            f"u {tuple(u.shape)}, a {tuple(a.shape)}, b {tuple(b.shape)} and c {tuple(c.shape)} "
            "do not fit: a is (D, N), b and c are (B, G, N, L), and G divides D"
        )
    with _single_precision(u.device.type):
        wide = torch.promote_types(u.dtype, torch.float32)
        v, step, a, b, c = (each.to(wide) for each in (u, delta, a, b, c))
        if delta_bias is not None:
            step = step + delta_bias.to(wide).unsqueeze(-1)
        if delta_softplus:
            step = F.softplus(step)
        split = (batch, groups, channels // groups, length)
        rates = a.reshape(groups, -1, states).transpose(1, 2)  # (D, N) -> (G, N, D / G)
        first = torch.zeros(batch, channels, states, dtype=wide, device=u.device)
        first = first if state is None else state.to(wide)
        first = first.reshape(batch, groups, -1, states).transpose(2, 3)  # (B, G, N, D / G)
        scan = _choose_scan(u, chunk, segments)
        y, last = scan(step.reshape(split), (step * v).reshape(split), rates, b, c, first)
        y = y.reshape(batch, channels, length)
        if d is not None:
            y = y + d.to(wide).unsqueeze(-1) * v
        if z is not None:
            y = y * F.silu(z.to(wide))
        return y.to(u.dtype), last.transpose(2, 3).reshape(batch, channels, states)


def _single_precision(device: str) -> AbstractContextManager[Any]:
    known = torch.amp.is_autocast_available(device)  # not on meta
    return torch.autocast(device, enabled=False) if known else nullcontext()


Scan = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Of ``delta`` and ``x`` (B, G, E, L), ``a`` (G, N, E), ``b`` and ``c`` (B, G, N, L) and the first
state (B, G, N, E): the output (B, G, E, L) and the last state."""


def _choose_scan(u: Tensor, chunk: int, segments: int | None) -> Scan:
    if torch.compiler.is_exporting():
        return _exported
    if torch._C._get_tracing_state() is not None:
        return _scripted()

    def chunked(*parts: Tensor) -> tuple[Tensor, Tensor]:
        y, last = _Chunked.apply(*parts, chunk, segments)  # type: ignore[no-untyped-call]
        return y, last

    return chunked


def recurrence(
    delta: Tensor, x: Tensor, a: Tensor, b: Tensor, c: Tensor, h: Tensor
) -> tuple[Tensor, Tensor]:
    """The definition, step by step; shapes as in :data:`Scan`. TorchScript can compile it."""
    outputs: list[Tensor] = []
    for t in range(x.shape[-1]):
        inputs = x[..., t].unsqueeze(2) * b[..., t].unsqueeze(3)  # (B, G, N, E)
        h = torch.exp(delta[..., t].unsqueeze(2) * a) * h + inputs
        outputs.append((c[..., t].unsqueeze(3) * h).sum(2))
    return torch.stack(outputs, -1), h


_compiled: list[Any] = []


def _scripted() -> Scan:
    """A trace cannot hold a loop over a length that varies; a compiled function in it can."""
    if not _compiled:
        _compiled.append(torch.jit.script(recurrence))
    found: Scan = _compiled[0]
    return found


@dataclass(frozen=True)
class _Cut:
    """Of a sequence into ``chunks`` of ``segments`` of ``steps``."""

    chunks: int
    segments: int
    steps: int

    @classmethod
    def of(cls, length: int, numbers: int, device: str, chunk: int, segments: int | None) -> _Cut:
        """Of ``length`` steps with states of ``numbers``."""
        if segments is None:
            few, enough = _FEW.get(device, _FEW["cuda"]), _ENOUGH.get(device, _ENOUGH["cuda"])
            segments = 1 if numbers >= few else math.ceil(enough / numbers)
            segments = max(1, min(segments, math.isqrt(length)))
        steps = max(1, min(chunk, math.ceil(length / segments)))
        return cls(math.ceil(length / (segments * steps)), segments, steps)

    def by_step(self, x: Tensor) -> Tensor:
        """``(B, G, C, L) -> (chunks, steps, B, segments, G, C)``; zeros follow the last step."""
        x = F.pad(x, (0, self.chunks * self.segments * self.steps - x.shape[-1]))
        x = x.reshape(*x.shape[:-1], self.chunks, self.segments, self.steps)
        return x.permute(3, 5, 0, 4, 1, 2)

    def by_place(self, x: Tensor, length: int) -> Tensor:
        """The inverse of :meth:`by_step`."""
        return x.permute(2, 4, 5, 0, 3, 1).flatten(3)[..., :length]


class _Chunked(torch.autograd.Function):
    """:data:`Scan`, chunk by chunk; a step of size 0 keeps the state, so the padding does."""

    @staticmethod
    def forward(
        ctx: Any,
        delta: Tensor,
        x: Tensor,
        a: Tensor,
        b: Tensor,
        c: Tensor,
        first: Tensor,
        chunk: int,
        segments: int | None,
    ) -> tuple[Tensor, Tensor]:
        length = x.shape[-1]
        ctx.cut = cut = _Cut.of(length, first.numel(), x.device.type, chunk, segments)
        y = torch.empty_like(cut.by_step(x), memory_format=torch.contiguous_format)
        starts = first.new_empty(cut.chunks, *y.shape[2:5], *first.shape[2:])
        h = first.contiguous()
        if not x.is_meta:
            a = a.contiguous()
            for index, part in enumerate(_chunks(cut, delta, x, b, c)):
                h = _forward_chunk(part, a, h, starts[index], y[index])
        ctx.save_for_backward(delta, x, a, b, c, starts)
        return cut.by_place(y, length).contiguous(), h.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dlast: Tensor) -> tuple[Tensor | None, ...]:
        delta, x, a, b, c, starts = ctx.saved_tensors
        cut: _Cut = ctx.cut
        length = x.shape[-1]
        shapes = (cut.by_step(each).shape for each in (delta, x, b, c))
        gradients = [x.new_empty(shape) for shape in shapes]
        da = torch.zeros_like(a, memory_format=torch.contiguous_format)
        decays = starts.new_empty(cut.steps, *starts.shape[1:])
        states = starts.new_empty(cut.steps + 1, *starts.shape[1:])
        carried = dlast.contiguous()
        if not x.is_meta:
            parts = list(_chunks(cut, delta, x, b, c, dy))
            for index in reversed(range(cut.chunks)):
                outs = [each[index] for each in gradients]
                states[0] = starts[index]
                carried = _backward_chunk(parts[index], a, carried, states, decays, outs, da)
        found = (cut.by_place(each, length) for each in gradients)
        ddelta, dx, db, dc = (each.contiguous() for each in found)
        return ddelta, dx, da, db, dc, carried.clone(), None, None


_Part = Sequence[Tensor]
"""Of a chunk: ``delta`` and ``x`` (T, B, S, G, 1, E), ``b`` and ``c`` (T, B, S, G, N, 1) and,
where gradients are computed, ``dy`` (T, B, S, G, 1, E)."""


def _chunks(cut: _Cut, delta: Tensor, x: Tensor, b: Tensor, c: Tensor, *dy: Tensor) -> list[_Part]:
    rows = [cut.by_step(each).contiguous().unsqueeze(-2) for each in (delta, x, *dy)]
    columns = [cut.by_step(each).contiguous().unsqueeze(-1) for each in (b, c)]
    ordered = (*rows[:2], *columns, *rows[2:])
    return list(zip(*(each.unbind() for each in ordered), strict=True))


def _forward_chunk(part: _Part, a: Tensor, h: Tensor, starts: Tensor, y: Tensor) -> Tensor:
    """Fill ``starts`` (B, S, G, N, E) and ``y`` (T, B, S, G, E); return the state at the end."""
    delta, x, b, c = part[:4]
    decay, inputs = torch.empty_like(starts), torch.empty_like(starts)
    steps = list(zip(delta.unbind(), x.unbind(), b.unbind(), strict=True))
    if starts.shape[1] == 1:
        starts.copy_(h.unsqueeze(1))
    else:
        moved = torch.zeros_like(starts)
        for step, value, into in steps:
            _advance(moved, step, value, into, a, decay, inputs)
        torch.mul(delta.sum(0), a, out=decay).exp_()
        for segment in range(starts.shape[1]):
            starts[:, segment] = h
            h = decay[:, segment] * h + moved[:, segment]
    state = starts.clone()
    flat = state.flatten(0, 2)
    rows = c.squeeze(-1).unsqueeze(-2).flatten(1, 3).unbind()  # each (B S G, 1, N)
    places = y.flatten(1, 3).unsqueeze(-2).unbind()
    for (step, value, into), row, place in zip(steps, rows, places, strict=True):
        _advance(state, step, value, into, a, decay, inputs)
        torch.bmm(row, flat, out=place)
    return state[:, -1].contiguous()


def _advance(
    h: Tensor, step: Tensor, value: Tensor, into: Tensor, a: Tensor, decay: Tensor, inputs: Tensor
) -> None:
    torch.mul(step, a, out=decay).exp_()
    torch.mul(value, into, out=inputs)
    torch.addcmul(inputs, decay, h, out=h)


def _backward_chunk(
    part: _Part,
    a: Tensor,
    carried: Tensor,
    states: Tensor,
    decays: Tensor,
    gradients: Sequence[Tensor],
    da: Tensor,
) -> Tensor:
    """Fill ``gradients`` (of delta, x, b, c), add to ``da``; return that of the chunk's state.

    ``carried`` is the gradient of the state after the chunk's last step, ``states[0]`` the state
    before each segment's first; the rest of ``states`` and ``decays`` is scratch space.
    """
    delta, x, b, c, dy = part
    ddelta, dx, db, dc = gradients
    segments = states.shape[2]
    for t, (step, value, into) in enumerate(zip(delta, x, b, strict=True)):
        torch.mul(step, a, out=decays[t]).exp_()
        torch.mul(value, into, out=states[t + 1]).addcmul_(decays[t], states[t])
    torch.bmm(
        states[1:].flatten(0, 3), dy.flatten(0, 3).transpose(1, 2), out=dc.flatten(0, 3)[..., None]
    )
    g = torch.empty_like(states[0])
    backwards = list(zip(c.unbind(), dy.unbind(), decays.unbind(), strict=True))[::-1]
    future = torch.zeros_like(g)  # what later steps send to the state before each of them
    if segments == 1:
        future[:, 0] = carried
    else:
        for row, upper, decay in backwards:
            torch.mul(torch.addcmul(future, row, upper, out=g), decay, out=future)
        over = torch.mul(delta.sum(0), a, out=g).exp_()
        for segment in reversed(range(segments)):
            local = future[:, segment].clone()
            future[:, segment] = carried
            carried = over[:, segment] * carried + local
    flat = g.flatten(0, 2)
    others = zip(
        b.transpose(-1, -2).flatten(1, 3).unbind(),
        x.transpose(-1, -2).flatten(1, 3).unbind(),
        dx.flatten(1, 3).unsqueeze(-2).unbind(),
        db.flatten(1, 3).unsqueeze(-1).unbind(),
        states[:-1].unbind(),
        strict=True,
    )
    for (row, upper, decay), (into, value, dvalue, dinto, before) in zip(
        backwards, list(others)[::-1], strict=True
    ):
        torch.addcmul(future, row, upper, out=g)
        torch.bmm(into, flat, out=dvalue)
        torch.bmm(flat, value, out=dinto)
        torch.mul(decay, g, out=future)
        before.mul_(future)  # the gradient of delta a
    exponent = states[:-1]
    torch.sum(torch.mul(exponent, a, out=decays), dim=-2, out=ddelta)
    da += exponent.mul_(delta).sum((0, 1, 2))
    return carried if segments > 1 else future[:, 0].contiguous()


def _dense(x: Tensor) -> Tensor:
    """A copy without gaps. ``contiguous`` leaves axes of one place the step that they had."""
    return x.clone(memory_format=torch.contiguous_format)


def _exported(
    delta: Tensor, x: Tensor, a: Tensor, b: Tensor, c: Tensor, first: Tensor
) -> tuple[Tensor, Tensor]:
    """With loops that an exporter can write down, over steps of about sqrt(L) segments.

    Not for gradients.
    """
    from torch._higher_order_ops.scan import scan

    length = x.shape[-1]
    segments = max(1, math.isqrt(length))
    rates, first = _dense(a.detach()), _dense(first.detach())
    cut = _Cut(1, segments, math.ceil(length / segments))
    steps, values, inputs, outputs = (cut.by_step(each.detach())[0] for each in (delta, x, b, c))

    def advance(h: Tensor, now: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        # Axes of one place that come from outside would be taken for axes of any length.
        step, value = (each.unsqueeze(-2) for each in now[:2])
        into, out = (each.unsqueeze(-1) for each in now[2:])
        h = (torch.exp(step * rates) * h + value * into).contiguous()
        return h, (out * h).sum(-2)

    def enter(h: Tensor, now: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        decay, moved = now
        return (decay * h + moved).contiguous(), h.clone()

    def every(body: Any, h: Tensor, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        last, found = scan(body, h, tuple(map(_dense, parts)))
        return last, found

    parts = (steps, values, inputs, outputs)
    zero = _dense(torch.zeros_like(first).unsqueeze(1).expand(-1, segments, -1, -1, -1))
    moved, _ = every(advance, zero, parts)
    over = torch.exp(steps.sum(0).unsqueeze(-2) * rates)
    last, starts = every(enter, first, (over.transpose(0, 1), moved.transpose(0, 1)))
    _, y = every(advance, _dense(starts.transpose(0, 1)), parts)
    return cut.by_place(y.unsqueeze(0), length), last
