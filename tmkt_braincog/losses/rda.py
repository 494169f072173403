"""Domain alignment with learned coefficients (RDA): TMKT Eq. 11-12; He et al., AAAI 2024."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..distributed import gather_batch
from ..errors import unknown_name
from .cka import linear_cka
from .tet import classification_loss

COEFFICIENTS = ("learned", "fixed", "off")


class RDALoss(nn.Module):
    """Means over t of ``sigma_t (1 - |CKA(V_m[t], V_e[t])|)`` and ``(1 - sigma_t) L(y_e[t], y)``.

    ``sigma_t = sigmoid(theta_t)`` with one learnable ``theta_t`` per time-step, 1.0 at the start
    (sigma 0.731). The gradient of theta_t favours the smaller of the two terms: where the event
    loss stays above 1 - CKA, sigma_t rises and the event loss fades. Watch the logged sigma.

    Args:
        steps: T.
        coefficients: ``learned``; ``fixed`` (theta stays at its start); ``off`` (both weights are
            1).
        **form: ``tet``, ``lamb``, ``threshold`` and ``smoothing`` of the event loss L
            (:attr:`plain`), see :func:`classification_loss`. Without TET the coefficients weight
            the alignment alone, which learned ones then fade out: take ``fixed`` or ``off``.
    """

    def __init__(self, steps: int, coefficients: str = "learned", **form: Any):
        super().__init__()
        if coefficients not in COEFFICIENTS:
            raise unknown_name("coefficients", coefficients, COEFFICIENTS)
        self.theta = nn.Parameter(torch.ones(steps), requires_grad=coefficients == "learned")
        self.coefficients = coefficients
        self.plain: Callable[..., Tensor] = partial(classification_loss, **form)

    @property
    def sigma(self) -> Tensor:
        """``[T]``, sigmoid(theta_t) in (0, 1)."""
        return self.theta.sigmoid()

    def alignment(self, tap_m: Tensor, tap_e: Tensor) -> Tensor:
        """Weighted misalignment of the domain features ``[T, B, D]`` of both streams, a scalar.

        Row b of both streams must have the same class. Under ``torch.distributed`` the samples of
        all processes are compared, and the gradients are those for DDP to average."""
        distance = 1 - linear_cka(gather_batch(tap_m, 1), gather_batch(tap_e, 1)).abs()
        return (distance if self.coefficients == "off" else self.sigma * distance).mean()

    def event_classification(self, logits_e: Tensor, y: Tensor) -> Tensor:
        """Weighted classification loss of the event logits ``[T, B, N]``, a scalar."""
        weight = None if self.coefficients == "off" else 1 - self.sigma
        return self.plain(logits_e, y, weight=weight)

    def diagnostics(self) -> dict[str, float]:
        """``sigma_1`` ... ``sigma_T``, for the log; empty where the coefficients are off."""
        if self.coefficients == "off":
            return {}
        return {f"sigma_{t}": s for t, s in enumerate(self.sigma.tolist(), start=1)}
