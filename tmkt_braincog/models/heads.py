"""The two modality-aware heads of TMKT on the spike features F_t, in training only (Eq. 13-16)."""

from torch import Tensor

from .exact import WideLinear


class MAGHead(WideLinear):
    """Modality-aware guidance g_s: ``[T, B, F]`` -> ``[T, B, 2]``, 0 event, 1 appearance."""

    def __init__(self, features: int):
        super().__init__(features, 2)


class MRPHead(WideLinear):
    """Mixup-ratio perception g_m: ``[T, B, F]`` -> ``[T, B]``, whose mean over T estimates y_m."""

    def __init__(self, features: int):
        super().__init__(features, 1)

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features).squeeze(-1)
