"""Method ``tmkt-penalty``: TMKT that is punished for being too sure of few recordings."""

from torch import Tensor

from tmkt_braincog.methods import METHODS, TMKT
from tmkt_braincog.methods.base import total

BETA = 0.1  # weight of the penalty, as in Pereyra et al., 2017


@METHODS.register("tmkt-penalty")
class TMKTPenalty(TMKT):
    """``L_TMKT - BETA H``, H being the mean entropy of the event stream's class probabilities."""

    def losses(self, out, mixed, y: Tensor) -> dict[str, Tensor]:
        """TMKT's losses and ``penalty`` = -H, in [-log N, 0]; ``loss`` is their weighted sum."""
        terms = super().losses(out, mixed, y)
        del terms["loss"]
        log_p = out.event.logits.log_softmax(dim=-1)  # [T, B, N]
        terms["penalty"] = (log_p.exp() * log_p).sum(dim=-1).mean()
        return total(terms, **self.weights, penalty=BETA)
