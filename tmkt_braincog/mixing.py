"""Time-step Mixup (TSM) and the replacement schedules it is compared with.

A strategy says for every sample how many of the last frames, n, are event frames; the first
``T - n`` show the static image. ``t* = T + 1 - n`` is the first event frame, counted from 1.

TMKT (arXiv 2509.12959), Eq. 7-10 and 18-19; sliding training: He et al., AAAI 2024.
"""

import math
from abc import ABC, abstractmethod
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from .data.pairs import Pair
from .errors import UserError, unknown_name
from .registry import Registry


@dataclass(frozen=True)
class Progress:
    """Where training stands: ``epoch`` e_c of ``epochs`` e_m, ``batch`` b_i of ``batches`` b_l."""

    epoch: int = 0
    epochs: int = 1
    batch: int = 0
    batches: int = 1

    @property
    def fraction(self) -> float:
        """Share of all training batches that are behind, in [0, 1)."""
        return (self.batch + self.epoch * self.batches) / (self.epochs * self.batches)


@dataclass(frozen=True)
class Mixed:
    """The mixed stream X_m and its labels.

    Attributes:
        frames: ``[B, T, 2, H, W]`` float, appearance frames first, event frames from ``t_star`` on.
        t_star: ``[B]`` int64 in 1..T+1; T+1 means that all frames are appearance.
        y_s: ``[B, T]`` int64 modality label, 0 event, 1 appearance (Eq. 13).
        y_m: ``[B]`` float32 ratio label ``(t* - 1) / T`` in [0, 1], the share of appearance frames.
    """

    frames: Tensor
    t_star: Tensor
    y_s: Tensor
    y_m: Tensor


def mix(static: Tensor, events: Tensor, n_event: Tensor) -> Mixed:
    """Replace the last ``n_event`` time-steps of the static sequence by event frames (Eq. 10).

    Args:
        static: ``[B, 2, H, W]`` image, the same at every time-step, or ``[B, T, 2, H, W]``.
        events: ``[B, T, 2, H, W]``, same dtype as ``static``.
        n_event: ``[B]`` int64 in 0..T.
    """
    T = events.shape[1]
    if static.ndim == 4:
        static = static.unsqueeze(1)
    t_star = T + 1 - n_event
    steps = torch.arange(1, T + 1, device=events.device)
    y_s = (steps < t_star.unsqueeze(1)).long()
    frames = torch.where(y_s.bool()[:, :, None, None, None], static, events)
    return Mixed(frames, t_star, y_s, (t_star - 1).to(torch.float32) / T)


def expected_event_share(pmf: np.ndarray, steps: int) -> float:
    """``E[T + 1 - t*] / T`` for a pmf over t* = 1, 2, ... (Eq. 9)."""
    return float(pmf @ (steps + 1 - np.arange(1, len(pmf) + 1)) / steps)


def geometric_pmf(p: float, steps: int) -> np.ndarray:
    """Law of t* over 1..T+1 for the draws of Eq. 7: first ``u_t < p``; T+1 if there is none."""
    t = np.arange(steps)
    return np.append(p * (1 - p) ** t, (1 - p) ** steps)


def truncated_pmf(p: float, steps: int) -> np.ndarray:
    """Eq. 8: the geometric law given t* <= T, over 1..T, for every real p < 1."""
    logits = np.arange(steps) * math.log1p(-p)
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


LAWS = {"geometric": geometric_pmf, "truncated": truncated_pmf}


def reachable_ratios(law: str, steps: int) -> tuple[float, float]:
    """Open interval of mixup ratios r_m that ``law`` can have as its mean at T = ``steps``."""
    return (0.0, 1.0) if law == "geometric" else (1.0 / steps, 1.0)


def solve_p(ratio: float, steps: int, law: str = "geometric") -> float:
    """The p whose expected share of event frames is ``ratio``: ``E[T + 1 - t*] = T r_m`` (Eq. 9).

    Eq. 8 conditions on t* <= T; a p in (0, 1) then exists only for r_m > (T+1)/(2T), which leaves
    out three of the paper's five ratios. The procedure as described (t* = T+1 allowed) reaches
    all and is the default law, ``geometric``; ``truncated`` solves Eq. 8 for a real p.

    Raises:
        UserError: the law cannot reach the ratio; the message says what it can reach.
    """
    if law not in LAWS:
        raise unknown_name("mixup law", law, LAWS)
    low, high = reachable_ratios(law, steps)
    if not low < ratio < high:
        raise UserError(
            f"--mixup-ratio {ratio:g} cannot be reached by the {law} law at T = {steps}: "
            f"choose a ratio above {low:g} and below {high:g}."
        )

    def excess(log_q: float) -> float:
        return expected_event_share(LAWS[law](-math.expm1(log_q), steps), steps) - ratio

    # q = 1 - p. The share falls as q grows from 0; conditioned, q may exceed 1.
    smallest, largest = -36.5, 700.0 if law == "truncated" else -1e-15
    if excess(smallest) < 0 or excess(largest) > 0:
        what = "small to be told from 0" if excess(largest) > 0 else "near 1 to be told from it"
        raise UserError(
            f"--mixup-ratio {ratio:g} is too {what} at T = {steps}: choose another one."
        )
    return -math.expm1(brentq(excess, smallest, largest, xtol=1e-15))


class Mixing(ABC):
    """A mixing strategy for T = ``steps``: ``strategy(batch, progress) -> Mixed``."""

    # Further arguments of the constructor, and the options of the command line that give them.
    options: Mapping[str, str] = {}

    def __init__(self, steps: int):
        self.steps = steps

    @classmethod
    def from_options(cls, given: Namespace) -> "Mixing":
        """Build from the resolved command line."""
        own = {name: getattr(given, option) for name, option in cls.options.items()}
        return cls(given.step, **own)

    @abstractmethod
    def event_frames(self, draws: Tensor, progress: Progress) -> Tensor:
        """Number of event frames per sample, ``[B]`` int64 in 0..T.

        Args:
            draws: ``[B, T]`` float64, independent uniform numbers in [0, 1).
        """

    def __call__(self, batch: Pair, progress: Progress = Progress()) -> Mixed:
        if batch.events.shape[-4] != self.steps:
            raise UserError(
                f"{type(self).__name__} was made for {self.steps} time-steps; the batch has "
                f"{batch.events.shape[-4]}."
            )
        return mix(batch.static, batch.events, self.event_frames(batch.draws, progress))

    def constant(self, draws: Tensor, n: int) -> Tensor:
        return torch.full_like(draws[:, 0], n, dtype=torch.long)


STRATEGIES: Registry[type[Mixing]] = Registry("mixing strategy")


@STRATEGIES.register("tsm")
class TimeStepMixup(Mixing):
    """TSM, Eq. 7-10: every sample changes from image to events at a random step t*.

    Args:
        ratio: r_m in (0, 1), the expected share of event frames.
        law: ``geometric`` (as described, default) or ``truncated`` (Eq. 8, given that t* <= T).
    """

    options = {"ratio": "mixup_ratio", "law": "mixup_law"}

    def __init__(self, steps: int, ratio: float = 0.4, law: str = "geometric"):
        super().__init__(steps)
        self.law = law
        self.p = solve_p(ratio, steps, law)

    def event_frames(self, draws: Tensor, progress: Progress) -> Tensor:
        if self.law == "truncated":
            cdf = torch.from_numpy(np.cumsum(truncated_pmf(self.p, self.steps))).to(draws.device)
            u = draws[:, 0].contiguous()
            return self.steps - torch.searchsorted(cdf, u, right=True).clamp_(max=self.steps - 1)
        # Event frames are those from the first hit on: the running "was hit" flags, counted.
        return (draws < self.p).long().cummax(dim=1).values.sum(dim=1)


@STRATEGIES.register("fixed")
class FixedRatio(Mixing):
    """The ablation's fixed ratio: ``t* = floor(T r_m)``, literally.

    For T = 10, r_m = 0.4 that is 3 appearance and 7 event frames, the other way round than Eq. 9;
    the published row was made with it. t* is at least 1.
    """

    options = {"ratio": "mixup_ratio"}

    def __init__(self, steps: int, ratio: float = 0.4):
        super().__init__(steps)
        if not 0 < ratio < 1:
            raise UserError(f"--mixup-ratio {ratio:g} is outside (0, 1).")
        self.n = steps + 1 - max(1, math.floor(steps * ratio + 1e-9))

    def event_frames(self, draws: Tensor, progress: Progress) -> Tensor:
        return self.constant(draws, self.n)


@STRATEGIES.register("linear")
class DynamicLinear(Mixing):
    """``r = e_c / e_m`` (Eq. 19); ``round(T r)`` event frames for every sample, half to even."""

    def event_frames(self, draws: Tensor, progress: Progress) -> Tensor:
        return self.constant(draws, round(self.steps * progress.epoch / progress.epochs))


@STRATEGIES.register("nonlinear")
class DynamicNonLinear(Mixing):
    """``r = ((b_i + e_c b_l) / (e_m b_l))^3`` (Eq. 18); ``round(T r)`` event frames."""

    def event_frames(self, draws: Tensor, progress: Progress) -> Tensor:
        return self.constant(draws, round(self.steps * progress.fraction**3))


@STRATEGIES.register("sliding")
class SlidingReplacement(Mixing):
    """Sliding training of He et al.: all is replaced with probability ``fraction ** power``.

    Args:
        power: 3 in the publication (``--pow``).
        sliding: False: no replacement in the first half of training, all replaced after it
            (``--no-sliding-training``: what the reference does then).
    """

    options = {"power": "pow", "sliding": "sliding_training"}

    def __init__(self, steps: int, power: float = 3, sliding: bool = True):
        super().__init__(steps)
        self.power, self.sliding = power, sliding

    def probability(self, progress: Progress) -> float:
        """P, the probability that a sample is replaced by its own event frames, in [0, 1]."""
        if not self.sliding:
            return float(progress.epoch > progress.epochs / 2)
        return min(1.0, progress.fraction**self.power)

    def event_frames(self, draws: Tensor, progress: Progress) -> Tensor:
        return (draws[:, 0] < self.probability(progress)).long() * self.steps
