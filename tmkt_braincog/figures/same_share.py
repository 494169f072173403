"""The mixing strategies at an equal expected share of event frames."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import mixing
from ..data import Pair
from ..mixing import Mixed, Mixing, Progress

EPOCHS = 10**6


class InputMixup(Mixing):
    """Mixup of the pixels: ``x = r events + (1 - r) static`` at every time-step, r = ``ratio``. No
    frame has a modality."""

    def __init__(self, steps: int, ratio: float):
        super().__init__(steps)
        self.ratio = ratio

    def event_frames(self, draws: Tensor, progress: Progress) -> Tensor:
        raise NotImplementedError("mixed inputs have no event frames")

    def __call__(self, batch: Pair, progress: Progress = Progress()) -> Mixed:
        frames = self.ratio * batch.events + (1 - self.ratio) * batch.static.unsqueeze(1)
        y_m = torch.full((len(frames),), 1 - self.ratio, device=frames.device)
        no_label: Any = None
        return Mixed(frames, no_label, no_label, y_m)


class Case(NamedTuple):
    """Strategies that mix alike: by name the share of the training behind at which they do (None:
    any)."""

    mixing: Mixing
    progress_of: dict[str, float | None]
    random: bool = False  # whether the mixing of a batch is a matter of chance


def cases(steps: int, ratio: float) -> list[Case]:
    """All strategies at an expected share ``ratio`` of event frames, TSM first; those that come to
    the same are one case.

    Raises:
        UserError: a ratio outside (0, 1).
    """
    tsm = Case(mixing.TimeStepMixup(steps, ratio), {"tsm": None}, random=True)
    # the fixed rule t* = floor(T r) counts the other way round: the r whose share is nearest
    t_star = min(range(1, steps), key=lambda t: abs((steps + 1 - t) / steps - ratio))
    constant: dict[int, Case] = {}
    cube_root = ratio ** (1 / 3)
    for name, strategy, share in (
        ("fixed", mixing.FixedRatio(steps, t_star / steps), None),
        ("linear", mixing.DynamicLinear(steps), ratio),
        ("nonlinear", mixing.DynamicNonLinear(steps), cube_root),
    ):
        n = int(strategy.event_frames(torch.zeros(1, steps), progress_at(share)))
        constant.setdefault(n, Case(strategy, {})).progress_of[name] = share
    sliding = Case(mixing.SlidingReplacement(steps), {"sliding": cube_root}, random=True)
    return [tsm, *constant.values(), sliding, Case(InputMixup(steps, ratio), {"input": None})]


def progress_at(share: float | None) -> Progress:
    return Progress(round((share or 0) * EPOCHS), EPOCHS)
