"""Distillation from an ANN teacher and from a network's own time-steps, in float32 at least.

Hinton et al., 2015; features: FitNets (Romero et al., ICLR 2015); phases: CKD (Ye et al., ICME
2025, arXiv 2507.09269); errors and time-steps: SeAl-KD (Sun et al., 2026, arXiv 2605.14252); among
time-steps: ETC (Zhao et al., 2025) and TKS (Dong et al., 2024, arXiv 2304.06540). Logits are
``[..., N]``, temperatures tau > 0."""

import math

import torch
import torch.nn.functional as F
from scipy.special import expit
from torch import Tensor


def kd_loss(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """``tau^2 KL(softmax(z_T / tau) || softmax(z_S / tau))``, the mean over all samples."""
    log_p, log_q = ((wide(z) / temperature).log_softmax(dim=-1) for z in (teacher, student))
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()


def hint_loss(teacher: Tensor, mapped: Tensor) -> Tensor:
    """Mean squared error of mapped to the teacher's features, ``[B, D]`` (FitNets, Eq. 3).

    Eq. 3 has half the sum over the dimensions; the mean does not depend on how many the teacher
    has."""
    return F.mse_loss(wide(mapped), wide(teacher))


def standardise(features: Tensor) -> Tensor:
    """``[S, D]`` with mean 0 and deviation 1 (over S, biased) in every dimension; constant: 0."""
    x = features.double()
    std, mean = torch.std_mean(x, dim=0, correction=0)
    # A constant dimension has no more than rounding errors.
    constant = std <= 1e-6 * mean.abs()
    return ((x - mean) / std.masked_fill(constant, torch.inf)).to(features.dtype)


def phase_weight(epoch: float, threshold: float, k: float) -> float:
    """``gamma(e) = 1 / (1 + exp(k (e - e_th)))``: CKD distils before epoch e_th, from 0."""
    return float(expit(-k * (epoch - threshold)))


def ela_loss(teacher: Tensor, student: Tensor, y: Tensor, temperature: float) -> Tensor:
    """ELA of SeAl-KD: :func:`kd_loss` at every time-step, of logits without the error.

    Where the student's largest entry w is not the label y, the student's entry w is replaced by its
    entry y, through which its gradient then flows, and the teacher's entries w and y by the smaller
    of the two.

    Args:
        teacher: ``[B, N]``.
        student: ``[T, B, N]``.
        y: ``[B]`` int64.
    """
    teacher, student = wide(teacher), wide(student)
    of_label = F.one_hot(y, student.shape[-1]).bool()  # [B, N]
    largest = student.argmax(dim=-1, keepdim=True)  # [T, B, 1]
    of_largest = torch.zeros_like(student, dtype=torch.bool).scatter(-1, largest, True)
    teacher = teacher.expand_as(student)
    label = y.view(1, -1, 1).expand_as(largest)
    smaller = torch.minimum(teacher.gather(-1, label), teacher.gather(-1, largest))
    # Where w = y both are what was there before.
    student = torch.where(of_largest, student.gather(-1, label), student)
    teacher = torch.where(of_largest | of_label, smaller, teacher)
    return kd_loss(teacher, student, temperature)


def sta_targets(logits: Tensor) -> Tensor:
    """What STA pulls every step i of ``[T, B, N]`` to, detached: the other steps' logits, T >= 2.

    Their weights are ``softmax_j(c_j cos(z_i, z_j))`` over j != i, with the confidence ``c_j = 1 -
    H(softmax(z_j)) / log N``."""
    z = wide(logits.detach())
    log_p = z.log_softmax(dim=-1)
    # [T, B]; with one class always 1
    confidence = 1 + (log_p.exp() * log_p).sum(dim=-1) / math.log(max(z.shape[-1], 2))
    with torch.autocast(z.device.type, enabled=False):
        unit = F.normalize(z, dim=-1)
        likeness = torch.einsum("ibn,jbn->bij", unit, unit)
        scores = likeness * confidence.transpose(0, 1).unsqueeze(1)
        own = torch.eye(len(z), dtype=torch.bool, device=z.device)
        weights = scores.masked_fill(own, float("-inf")).softmax(dim=-1)  # [B, T, T]
        return torch.einsum("bij,jbn->ibn", weights, z)


def sta_loss(logits: Tensor, temperature: float) -> Tensor:
    """STA of SeAl-KD: :func:`kd_loss` of every step of ``[T, B, N]`` to :func:`sta_targets`.

    Mean over time-steps and batch, 0 for T = 1. The factor tau^2 is that of SeAl's code; its paper
    writes none."""
    if len(logits) == 1:
        return 0 * wide(logits).sum()
    return kd_loss(sta_targets(logits), logits, temperature)


def etc_loss(logits: Tensor, temperature: float) -> Tensor:
    """``tau^2 KL(softmax(z_j / tau) || softmax(z_i / tau))``, the mean over all pairs i != j of
    time-steps of ``[T, B, N]`` and over the batch; z_j takes no part in the gradient, T >= 2 (ETC).
    """
    log_p, T = (wide(logits) / temperature).log_softmax(dim=-1), len(logits)
    fixed = log_p.detach()
    # The sum over all pairs, of which those with i = j are 0 and have no gradient.
    pairs = T * (fixed.exp() * fixed).sum(dim=0) - fixed.exp().sum(dim=0) * log_p.sum(dim=0)
    return temperature**2 * pairs.sum(dim=-1).mean() / (T * (T - 1))


def tks_loss(logits: Tensor, y: Tensor, temperature: float) -> Tensor:
    """``tau^2 CE(z_t, softmax(s / tau))``, the mean over time-steps and batch of ``[T, B, N]``.

    s is the sum of the logits of the steps that are right, uniform where none is; as in TKS's code
    it is part of the gradient, and z_t is not divided by tau. ``y``: ``[B]`` int64."""
    z = wide(logits)
    right = (z.argmax(dim=-1) == y).unsqueeze(-1)
    target = ((z * right).sum(dim=0) / temperature).softmax(dim=-1)
    return -(temperature**2) * (target * z.log_softmax(dim=-1)).sum(dim=-1).mean()


def wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
