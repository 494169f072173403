"""Linear centred kernel alignment (CKA) between two sets of features of the same samples.

Kornblith et al., ICML 2019; for domain alignment: He et al., AAAI 2024, and TMKT Eq. 11.
"""

import torch
from torch import Tensor

from ..errors import UserError
from .distillation import wide

# Keeps 0/0 at 0 for constant features; the value of the reference code.
EPSILON = 1e-7


def _centre(gram: Tensor) -> Tensor:
    rows = gram.mean(dim=-1, keepdim=True)
    return gram - rows - rows.transpose(-1, -2) + rows.mean(dim=-2, keepdim=True)


def _u_centre(gram: Tensor) -> Tensor:
    """U-centring of Szekely & Rizzo (2014): unbiased HSIC, zero diagonal."""
    n = gram.shape[-1]
    off_diagonal = ~torch.eye(n, dtype=torch.bool, device=gram.device)
    gram = gram * off_diagonal
    rows = gram.sum(dim=-1, keepdim=True) / (n - 2)
    total = rows.sum(dim=-2, keepdim=True) / (n - 1)
    return (gram - rows - rows.transpose(-1, -2) + total) * off_diagonal


def linear_cka(x: Tensor, y: Tensor, debiased: bool = False) -> Tensor:
    """CKA over the samples, from their B x B Gram matrices; in float32 also under autocast.

    Args:
        x: ``[..., B, D]``, y: ``[..., B, D']``; row b of both is the same sample, B >= 2
            (``debiased``: B >= 4).
        debiased: use the unbiased estimator of HSIC; the result may then be negative.

    Returns:
        ``[...]``, in [0, 1] where not ``debiased``.

    Raises:
        UserError: too few samples.
    """
    B, least = x.shape[-2], 4 if debiased else 2
    if B < least or y.shape[-2] != B:
        raise UserError(
            f"CKA compares samples within a batch: seen batches of {B} and {y.shape[-2]}, expected "
            f"the same number, at least {least}. Raise --batch-size, or switch the alignment loss "
            "off (--no-rda for tmkt, --no-domain-loss for the baseline)."
        )
    with torch.autocast(x.device.type, enabled=False):
        x, y = wide(x), wide(y)
        centre = _u_centre if debiased else _centre
        gram_x, gram_y = centre(x @ x.transpose(-1, -2)), centre(y @ y.transpose(-1, -2))
        hsic = (gram_x * gram_y).sum(dim=(-2, -1))
        norms = torch.linalg.matrix_norm(gram_x) * torch.linalg.matrix_norm(gram_y)
        return hsic / (norms + EPSILON)
