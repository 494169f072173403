"""The two modality-aware heads of TMKT; they exist in training only.

Source: TMKT Eq. 13-16. Both read the spike feature F_t that the final linear layer sees.
"""

from torch import Tensor

from .exact import WideLinear


class MAGHead(WideLinear):
    """Modality-aware guidance g_s: is this frame from the event or from the appearance stream?

    ``[T, B, F]`` spike features -> ``[T, B, 2]`` logits (0 event, 1 appearance).
    """

    def __init__(self, features: int):
        super().__init__(features, 2)


class MRPHead(WideLinear):
    """Mixup-ratio perception g_m: which share of the frames is appearance?

    ``[T, B, F]`` spike features -> ``[T, B]``; their mean over T estimates ``y_m``. Linear output, no sigmoid.
    """

    def __init__(self, features: int):
        super().__init__(features, 1)

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features).squeeze(-1)
