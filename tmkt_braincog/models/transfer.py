"""Two streams through one spiking backbone, step by step as BrainCog and the reference, or fused to the same numbers."""

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial

import torch
from braincog.base.node.node import LIFNode
from braincog.model_zoo.base_module import BaseModule
from torch import Tensor, nn

from ..errors import UserError
from .exact import make_exact, widen
from .fused import Plan, fused
from .names import node_class, surrogate_class


@dataclass(frozen=True)
class StreamOutput:
    """What one stream leaves at every time-step, in float32 or wider.

    Attributes:
        logits: ``[T, B, N]``.
        tap: ``[T, B, D]``, the domain feature V[t] of the alignment loss, flattened in NCHW order.
        spikes: ``[T, B, F]``, the feature F_t that the final linear layer sees.
    """

    logits: Tensor
    tap: Tensor
    spikes: Tensor


@dataclass(frozen=True)
class TransferOutput:
    """``event``: the event stream; ``static``: the static, sliding or mixed stream, None if it was not run."""

    event: StreamOutput
    static: StreamOutput | None = None


class TransferModel(BaseModule):
    """Base of the ``Transfer_*`` models: a BrainCog backbone with a head per stream.

    Parameters are shared by both streams. The static stream runs first, then, after a reset of all
    neurons, the event stream, each one time-step after another: BatchNorm sees one stream and one
    step at a time, and its running statistics take T updates from each. With ``executor = "fused"`` the same is
    computed layer by layer (:mod:`~tmkt_braincog.models.fused`); forward hooks then see all streams and steps at once:
    set ``executor = "step"`` to look inside.

    Subclasses set ``num_features`` (F) and build their layers after ``super().__init__``, then call
    :meth:`finish`. Where the tap is a membrane, :attr:`tap_node` names its neuron.

    Args:
        num_classes: N.
        step: T.
        node_type: BrainCog node class or its name.
        act_fun: BrainCog surrogate class or its name.
        threshold, tau: firing threshold and membrane time constant of the neurons.
        event_size: side in pixels of the input frames.
        width_divisor: for the subclasses that can be narrowed, which take it themselves; the others refuse it.
        **node_options: passed on to the neurons, as BrainCog's models do.
    """

    num_features: int
    executor = "fused"

    def __init__(
        self,
        num_classes: int = 10,
        step: int = 10,
        node_type: type | str = LIFNode,
        act_fun: type | str = "QGateGrad",
        threshold: float = 0.5,
        tau: float = 2.0,
        event_size: int = 48,
        width_divisor: int = 1,
        **node_options,
    ):
        super().__init__(step=step, encode_type="direct")
        if width_divisor != 1:
            raise UserError(
                f"--width-divisor {width_divisor}: {type(self).__name__} has fixed widths. Leave the option away."
            )
        self.num_classes = num_classes
        self.event_size = event_size
        self.node_class = node_class(node_type)
        self.node_options = dict(node_options, threshold=threshold, tau=tau, act_fun=surrogate_class(act_fun))
        self.node = partial(self.node_class, step=step, **self.node_options)

    def finish(self) -> None:
        """Call at the end of ``__init__``, when all neurons exist."""
        make_exact(self)

    @abstractmethod
    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """One time-step ``[B, 2, H, W]`` -> (tap ``[B, D]``, spike feature ``[B, F]``)."""

    @abstractmethod
    def classify(self, spikes: Tensor, stream: str) -> Tensor:
        """Spike feature ``[B, F]`` -> logits ``[B, N]`` by the head of ``stream`` (``static`` or ``event``)."""

    @property
    def tap_node(self) -> nn.Module | None:
        """The neuron whose membrane is the tap; None where the tap is no membrane."""
        return None

    def _check(self, x: Tensor, stream: str) -> None:
        if x.ndim != 5 or x.shape[1] != self.step or x.shape[2] != 2:
            raise UserError(
                f"The {stream} stream has shape {tuple(x.shape)}; expected [B, T={self.step}, 2, H, W]."
            )

    def run_stream(self, x: Tensor, stream: str) -> StreamOutput:
        """Reset all neurons and run ``[B, T, 2, H, W]`` through the backbone and the head of ``stream``, step by step."""
        self.reset()
        taps, spikes, logits = [], [], []
        for t in range(self.step):
            tap, spike = self.features(x[:, t])
            taps.append(tap)
            spikes.append(spike)
            logits.append(self.classify(spike, stream))
        return StreamOutput(*(widen(torch.stack(steps)) for steps in (logits, taps, spikes)))

    def forward(self, events: Tensor, static: Tensor | None = None) -> TransferOutput:
        """Run ``static`` first where it is given, then ``events``, both ``[B, T, 2, H, W]``."""
        streams = {"event": events} if static is None else {"static": static, "event": events}
        for name, x in streams.items():
            self._check(x, name)
        if self.executor == "fused":
            return TransferOutput(**self._run_fused(streams))
        return TransferOutput(**{name: self.run_stream(x, name) for name, x in streams.items()})

    def _run_fused(self, streams: dict[str, Tensor]) -> dict[str, StreamOutput]:
        x = torch.stack([x.transpose(0, 1) for x in streams.values()])
        plan = Plan(len(streams), *x.shape[1:3])
        self.reset()
        with fused(self, plan, self.tap_node):
            tap, spikes = (f.view(*x.shape[:3], -1) for f in self.features(x.flatten(0, 2)))
        self.reset()
        outputs = {}
        for name, v, f in zip(streams, tap.unbind(), spikes.unbind(), strict=True):
            logits = self.classify(f.flatten(0, 1), name).view(*f.shape[:2], -1)
            outputs[name] = StreamOutput(*map(widen, (logits, v, f)))
        return outputs


# What timm's and BrainCog's create_model calls carry that has no meaning here, and what would
# change the method without a word (BatchNorm over all steps at once, time as channels, ...).
_IGNORED = (
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "cache_dir",
    "dataset",
    "spike_output",
    "adaptive_node",
)
_REFUSED = {"layer_by_layer": False, "temporal_flatten": False, "n_groups": 1, "encode_type": "direct"}


def timm_options(pretrained: bool, kwargs: dict) -> dict:
    """Keyword arguments of a ``create_model`` call, as the models here take them.

    Raises:
        UserError: pretrained weights asked for (there are none), or an option of BrainCog that would
            change the method, such as ``layer_by_layer=True``.
    """
    if pretrained:
        raise UserError("pretrained=True: no pretrained weights exist for the transfer models; use --resume.")
    for name, only in _REFUSED.items():
        if kwargs.get(name, only) != only:
            raise UserError(
                f"{name}={kwargs[name]!r} is not supported by the transfer models, only {only!r}."
            )
    return {k: v for k, v in kwargs.items() if k not in _IGNORED and k not in _REFUSED}


def membrane(node: nn.Module) -> Tensor:
    """Membrane potential ``[B, D]`` of a node after its step, reset included.

    Raises:
        UserError: the node has no membrane (``ReLUNode`` and the like).
    """
    if not isinstance(node.mem, Tensor):
        raise UserError(
            f"{type(node).__name__} keeps no membrane potential, so there is nothing to align: "
            "choose a spiking node such as LIFNode (and, in a model of your own, name it in tap_node)."
        )
    return node.mem.flatten(1)
