"""Mixing strategy ``tsm-rising``: TSM whose share of event frames grows with the training."""

from torch import Tensor

from tmkt_braincog.mixing import STRATEGIES, Mixing, Progress, solve_p

FIRST, LAST = 0.1, 0.9  # r_m at the start and at the end of training


@STRATEGIES.register("tsm-rising")
class RisingTimeStepMixup(Mixing):
    """A walk per sample as in TSM (Eq. 7), with r_m going linearly from FIRST to LAST."""

    def event_frames(self, draws: Tensor, progress: Progress) -> Tensor:
        """``[B, T]`` uniform draws -> ``[B]`` int64 number of event frames, the last ones."""
        p = solve_p(FIRST + (LAST - FIRST) * progress.fraction, self.steps)
        hit = (draws < p).long()  # from the first hit on, all frames are event frames
        return hit.cummax(dim=1).values.sum(dim=1)
