"""Two streams through one spiking backbone, step by step as BrainCog and the reference, or fused to the same numbers."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from braincog.base.node.node import BaseNode, LIFNode
from braincog.model_zoo.base_module import BaseModule
from torch import Tensor, nn

from ..errors import UserError, unknown_name
from .blocks import NotFoldable, Parts, layers, leaves, refuse_global_hooks, refuse_shared
from .exact import make_exact, widen
from .fused import Folded, Plan, run
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
    computed layer by layer (:mod:`~tmkt_braincog.models.fused`), where every layer is one that can be
    (:meth:`why_step_by_step`); a model with forward hooks runs step by step, so that they see one time-step at a time.

    After a call neurons are at rest; what BrainCog's ``set_requires_fp`` and ``set_requires_mem`` ask them to collect is
    that of the event stream, under both executors.

    Subclasses set ``num_features`` (F), build their layers after ``super().__init__``, then call :meth:`finish`, and
    say by :meth:`blocks` in which order a frame passes them. Where the tap is a membrane, :attr:`tap_node` names its neuron.
    A network that no order of blocks describes overrides :meth:`features` instead, and runs step by step.

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
        _refuse_unknown(node_options, self.node_class)
        self.node_options = dict(
            node_options, threshold=threshold, tau=tau, act_fun=surrogate_class(act_fun)
        )
        self.node = partial(self.node_class, step=step, **self.node_options)

    def finish(self) -> None:
        """Call at the end of ``__init__``, when all neurons exist.

        Raises:
            UserError: a layer with the name of a method, which would hide it.
        """
        for name in self._modules:
            if hasattr(type(self), name):
                raise UserError(
                    f"{type(self).__name__}: {name} is a method of the transfer models; give the layer another name."
                )
        make_exact(self)

    def block_list(self) -> Sequence[nn.Module]:
        """The modules that a frame passes, in order, up to the spike feature F_t (flattened after the last one)."""
        raise NotFoldable("it has features() of its own and no block_list()")

    def head_of(self, stream: str) -> nn.Module:
        """The linear head of ``stream`` (``static`` or ``event``)."""
        return self.rgb_fc if stream == "static" else self.dvs_fc

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """One time-step ``[B, 2, H, W]`` -> (tap ``[B, D]``, spike feature ``[B, F]``)."""
        for block in self.block_list():
            x = block(x)
        spikes = x.flatten(1)
        return spikes if self.tap_node is None else membrane(self.tap_node), spikes

    def classify(self, spikes: Tensor, stream: str) -> Tensor:
        """Spike feature ``[B, F]`` -> logits ``[B, N]`` by the head of ``stream``."""
        return self.head_of(stream)(spikes)

    @property
    def tap_node(self) -> nn.Module | None:
        """The neuron whose membrane is the tap; None where the tap is F_t itself."""
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
        if (dtype := next(self.parameters()).dtype) in (torch.bfloat16, torch.float16):
            raise UserError(
                f"The model's weights are {dtype}: keep them in float32 and run it under torch.autocast (--amp bf16), which "
                "leaves neuron state and losses in float32."
            )
        parts = self._foldable(streams) if self.executor == "fused" else None
        if parts is None:
            outputs = {name: self.run_stream(x, name) for name, x in streams.items()}
        else:
            outputs = self._run_fused(streams, *parts)
        self._rest()
        return TransferOutput(**outputs)

    def why_step_by_step(self) -> str:
        """Why the model, as it is now, cannot run fused; empty where it can."""
        try:
            self._read(("static", "event"))
        except NotFoldable as reason:
            return str(reason)
        return ""

    def _foldable(self, streams: dict[str, Tensor]) -> tuple[Parts, dict[str, Parts]] | None:
        try:
            return self._read(streams)
        except NotFoldable:
            return None

    def _read(self, streams: Sequence[str]) -> tuple[Parts, dict[str, Parts]]:
        """Layers of the backbone and of each stream's head."""
        refuse_global_hooks()
        for name in ("features", "classify", "run_stream"):
            if getattr(getattr(self, name), "__func__", None) is not getattr(TransferModel, name):
                raise NotFoldable(f"it has a {name}() of its own")
        parts = layers(self.block_list())
        heads = {name: layers([self.head_of(name)]) for name in streams}
        for head in heads.values():
            refuse_shared([*leaves(parts), *leaves(head)])
        if self.tap_node is not None and not any(node is self.tap_node for node in leaves(parts)):
            raise NotFoldable("its tap_node is in none of its block_list()")
        return parts, heads

    def _run_fused(
        self, streams: dict[str, Tensor], backbone: Parts, heads: dict[str, Parts]
    ) -> dict[str, StreamOutput]:
        x = torch.stack([x.transpose(0, 1) for x in streams.values()])
        S, T, B = x.shape[:3]
        x = x.flatten(0, 2).contiguous(memory_format=torch.channels_last)
        self.reset()
        spikes = run(backbone, Folded(x), Plan(S, T, B), self.tap_node).x.flatten(1)
        taps = spikes if self.tap_node is None else membrane(self.tap_node)
        outputs = {}
        for name, tap, feature in zip(streams, taps.chunk(S), spikes.chunk(S), strict=True):
            logits = run(heads[name], Folded(feature), Plan(1, T, B)).x
            outputs[name] = StreamOutput(
                *(widen(f.unflatten(0, (T, B))) for f in (logits, tap, feature))
            )
        return outputs

    def _rest(self) -> None:
        """Reset all neurons, so that no graph stays in them, but leave what they were asked to collect."""
        for node in self.modules():
            if isinstance(node, BaseNode):
                collected = node.feature_map, node.mem_collect
                node.n_reset()
                node.feature_map, node.mem_collect = collected


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
_REFUSED = {
    "layer_by_layer": False,
    "temporal_flatten": False,
    "n_groups": 1,
    "encode_type": "direct",
}


def _refuse_unknown(node_options: dict, node: type) -> None:
    """A UserError for a keyword that neither the model nor its neurons have: BrainCog's would swallow it."""
    known = {"mem_detach", "requires_mem"}  # read out of ``**kwargs`` by BaseNode
    for kind in node.__mro__:
        if issubclass(kind, BaseNode):
            known |= set(inspect.signature(kind.__init__).parameters)
    known -= {"self", "args", "kwargs"}
    own = inspect.signature(TransferModel.__init__).parameters.keys() - {"self", "node_options"}
    for name in node_options:
        if name not in known:
            raise unknown_name("option of a transfer model", name, own | known)


def timm_options(pretrained: bool, kwargs: dict) -> dict:
    """Keyword arguments of a ``create_model`` call, as the models here take them.

    Raises:
        UserError: pretrained weights asked for (there are none), or an option of BrainCog that would
            change the method, such as ``layer_by_layer=True``.
    """
    if pretrained:
        raise UserError(
            "pretrained=True: no pretrained weights exist for the transfer models; use --resume."
        )
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
