"""BatchNorm over the whole batch of all processes (``--sync-bn``).

PyTorch's ``SyncBatchNorm`` runs on GPUs only and one step at a time; this one runs anywhere, and under the fused
executor exchanges the statistics of all streams and steps of a layer at once.
"""

import torch
from torch import Tensor, nn

from .. import distributed
from .exact import widen


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` whose statistics, while training, are those of all processes' samples.

    Every process must bring the same number of samples. Parameters, buffers and evaluation are those of
    ``nn.BatchNorm2d``; with one process there is no difference.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or distributed.count() == 1:
            return super().forward(x)
        wide = widen(x)
        mean = distributed.mean_with_gradient(wide.mean((0, 2, 3)))
        centred = wide - mean[:, None, None]
        var = distributed.mean_with_gradient(centred.square().mean((0, 2, 3)))
        n = x.numel() // x.shape[1] * distributed.count()
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            momentum = (
                1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            )
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
            self.running_var.lerp_((var * (n / max(n - 1, 1))).to(self.running_var.dtype), momentum)
        out = centred * (var + self.eps).rsqrt()[:, None, None]
        if self.affine:
            out = out * self.weight[:, None, None] + self.bias[:, None, None]
        return out.to(x.dtype)


def synchronise(model: nn.Module) -> None:
    """Turn every plain ``nn.BatchNorm2d`` of ``model`` into a :class:`GlobalBatchNorm2d`, in place."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d and module.track_running_stats:
            module.__class__ = GlobalBatchNorm2d


def global_moments(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of all processes' samples from those of each, equally many; no gradient."""
    overall = distributed.mean(mean)
    return overall, distributed.mean(var + (mean - overall).square())
