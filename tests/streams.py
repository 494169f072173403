"""Made-up outputs of both streams, a batch that they could be of, and plain sums over lists."""

import math

import torch

from tmkt_braincog.data.pairs import Pair
from tmkt_braincog.models import StreamOutput, TransferOutput
from tmkt_braincog.options import parse, resolve

T, B, N, D, FEATURES = 4, 6, 3, 7, 5
BATCH = Pair(
    events=torch.zeros(B, T, 2, 1, 1),
    static=torch.ones(B, 2, 1, 1),
    label=torch.tensor([0, 1, 2, 2, 1, 0]),
    draws=torch.rand(B, T, generator=torch.Generator().manual_seed(3)),
    index=torch.tensor([3, 0, 5, 1, 2, 4]),
    image=torch.tensor([10, 2, 2, 7, 0, 9]),
)


def rand(*shape, seed=0, scale=1.0, dtype=torch.float64):
    """Normally distributed."""
    g = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=g, dtype=dtype)


def outputs() -> TransferOutput:
    """Always the same; their gradients are their own."""
    sizes = (N, D, FEATURES)
    values = [rand(T, B, sizes[k % 3], seed=k).requires_grad_() for k in range(6)]
    return TransferOutput(event=StreamOutput(*values[:3]), static=StreamOutput(*values[3:]))


OUT = outputs()


def model(events, static=None):
    return TransferOutput(OUT.event) if static is None else OUT


def options(line=""):
    return resolve(parse(line.split()))[0]


def values(losses):
    return {name: term.item() for name, term in losses.items()}


def softmax(z, tau=1.0):
    e = [math.exp((v - max(z)) / tau) for v in z]
    return [v / math.fsum(e) for v in e]


def cross_entropy(target, z, tau=1.0):
    """Of ``softmax(z / tau)`` with probabilities."""
    p = softmax(z, tau)
    return -math.fsum(t * math.log(q) for t, q in zip(target, p, strict=True))


def kl(target, z, tau):
    """Of ``softmax(z / tau)`` from ``softmax(target / tau)``."""
    p = softmax(target, tau)
    return cross_entropy(p, z, tau) - cross_entropy(p, target, tau)
