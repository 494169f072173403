"""The part ``vl2spike``: our reading of the abstract of VL2Spike (arXiv 2606.15898).

No equation, weight or code of it is public. What is called VL2Spike here is what its abstract
suggests to us, with weights of our own."""

from argparse import Namespace
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..arguments import VL2SPIKE_TERMS as TERMS
from ..distributed import gather_batch
from ..losses import language
from ..models.exact import WideLinear
from .base import PARTS, Pair, Part, Progress, TransferOutput, total

WIDTH = 128  # P, of the space that the network and the vision-language model share
MOMENTUM = 0.9  # of the prototypes
WARM = 0.25  # share of the epochs in which the temporal terms' weight rises from 0


@PARTS.register("vl2spike")
class VL2Spike(Part):
    """Images, class names and time-steps teach the network (SVS and SPL, as we read them).

    SVS: ``image`` draws W_s of the static stream's mean F_t to W_v of its own image's embedding,
    against the batch's other images; ``membrane`` and ``rate`` are the event stream's consistency
    over time, with a weight that rises from 0. SPL: ``prototype`` draws each class's running mean
    of W_s of the event stream's mean F_t to W_v of the class name's embedding, against the other
    names; ``word`` is the cross-entropy of the mean event logits with the names' likeness to the
    right one. W_s, W_v and the prototypes are not used at test time.

    Args:
        features: F.
        terms: those of ``--vl2spike-terms``.
    """

    teacher_on = "vlm"
    teacher_gives = "embeddings"
    needs_static = compares_steps = True
    takes = ("vl2spike_terms",)
    weight = 0.1  # of every term
    temperature = 0.07  # tau of ``image`` and ``prototype``
    word_temperature = 0.1  # tau of the names' likeness
    of_words: WideLinear  # W_v
    text: Tensor  # ``[N, E]``
    word: Tensor  # ``[N, N]``, the target of each class
    prototypes: Tensor  # ``[N, P]``
    seen: Tensor  # ``[N]`` bool, whether a class has a prototype

    def __init__(self, features: int, terms: Sequence[str] = TERMS):
        super().__init__()
        self.terms = terms
        self.of_spikes = WideLinear(features, WIDTH, bias=False)

    @classmethod
    def from_options(cls, options: Namespace, features: int) -> "VL2Spike":
        return cls(features, options.vl2spike_terms)

    def meet(self, teacher) -> None:
        n_classes, width = teacher.text.shape
        self.of_words = WideLinear(width, WIDTH, bias=False)
        self.register_buffer("text", teacher.text.clone(), persistent=False)
        words = language.word_targets(self.text, self.word_temperature)
        self.register_buffer("word", words, persistent=False)
        self.register_buffer("prototypes", torch.zeros(n_classes, WIDTH))
        self.register_buffer("seen", torch.zeros(n_classes, dtype=torch.bool))

    def forward(self, out: TransferOutput, batch: Pair, progress: Progress) -> dict[str, Tensor]:
        terms = {f"vl_{name}": getattr(self, f"_{name}")(out, batch) for name in self.terms}
        warm = min(1.0, progress.epoch / (WARM * progress.epochs))
        weights = dict.fromkeys(terms, self.weight)
        weights |= dict.fromkeys(("vl_membrane", "vl_rate"), warm * self.weight)
        return total(terms, **weights)

    def _image(self, out: TransferOutput, batch: Pair) -> Tensor:
        which = gather_batch(batch.image, 0)
        same = (which.unsqueeze(1) == which).to(self.text.dtype)
        images = self.of_words(self.teacher[which])
        spikes = self.of_spikes(gather_batch(out.static.spikes.mean(dim=0), 0))
        target = same / same.sum(dim=1, keepdim=True)
        return language.contrastive_loss(spikes, images, target, self.temperature).mean()

    def _membrane(self, out: TransferOutput, batch: Pair) -> Tensor:
        return language.membrane_consistency(out.event.tap)

    def _rate(self, out: TransferOutput, batch: Pair) -> Tensor:
        return language.rate_consistency(out.event.spikes)

    def _prototype(self, out: TransferOutput, batch: Pair) -> Tensor:
        spikes = language.unit(self.of_spikes(gather_batch(out.event.spikes.mean(dim=0), 0)))
        of_class = F.one_hot(gather_batch(batch.label, 0), len(self.text)).to(spikes)  # [B, N]
        here = of_class.sum(dim=0) > 0
        with torch.autocast(spikes.device.type, enabled=False):
            means = of_class.mT @ spikes / of_class.sum(dim=0).clamp(min=1).unsqueeze(1)
        current = self._run_on(means)
        if self.training:
            moved = torch.where(here.unsqueeze(1), current.detach(), self.prototypes)
            self.prototypes.copy_(moved)
            self.seen |= here
        names, right = self.of_words(self.text), torch.eye(len(self.text), device=means.device)
        losses = language.contrastive_loss(current, names, right, self.temperature)
        return (losses * here).sum() / here.sum()

    def _run_on(self, means: Tensor) -> Tensor:
        """The running means with these of a batch, which a class's first ones start."""
        kept = MOMENTUM * self.seen.to(means.dtype).unsqueeze(1)
        return kept * self.prototypes + (1 - kept) * means

    def _word(self, out: TransferOutput, batch: Pair) -> Tensor:
        return F.cross_entropy(out.event.logits.mean(dim=0), self.word[batch.label])
