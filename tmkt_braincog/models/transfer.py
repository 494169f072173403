"""Two streams through one spiking backbone, step by step, or fused to the same numbers."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from braincog.base.node.node import BaseNode, LIFNode
from braincog.model_zoo.base_module import BaseModule
from torch import Tensor, nn

from ..errors import UserError
from .blocks import NotFoldable, Parts, layers, leaves, refuse_shared
from .exact import make_exact, widen
from .folded import Folded, Plan
from .fused import run
from .names import node_class, refuse_unknown, surrogate_class
from .names import timm_options as timm_options


@dataclass(frozen=True)
class StreamOutput:
    """What one stream leaves at every time-step, in float32 or wider."""

    logits: Tensor  # ``[T, B, N]``
    tap: Tensor  # ``[T, B, D]``, the domain feature V[t] of the alignment loss, in NCHW order
    spikes: Tensor  # ``[T, B, F]``, the feature F_t that the final linear layer sees
    # ``[B, D']``, the sum over time of what the stream's own layers give; None where it has none.
    stem: Tensor | Any = None


@dataclass(frozen=True)
class TransferOutput:
    """The event stream and the static (sliding, mixed) one, None if it was not run."""

    event: StreamOutput
    static: StreamOutput = None  # type: ignore[assignment]


class TransferModel(BaseModule):
    """Base of the ``Transfer_*`` models: a BrainCog backbone with a head per stream.

    The static stream runs first, then, after a reset of all neurons, the event stream, each one
    time-step after another: BatchNorm sees one stream and step at a time. With ``executor =
    "fused"`` the same is computed layer by layer, where every layer is one that can be
    (:meth:`why_step_by_step`). After a call neurons are at rest; what BrainCog's
    ``set_requires_fp`` and ``set_requires_mem`` ask for is collected from the event stream.

    Subclasses build their layers after ``super().__init__``, set ``num_features`` (F) and the heads
    ``rgb_fc`` and ``dvs_fc``, call :meth:`finish`, and say by :meth:`block_list` in which order a
    frame passes the layers, and by :meth:`stem_of` which a stream has of its own before them. A
    network that no such list describes overrides :meth:`features` and runs step by step.

    Args:
        num_classes: N.
        step: T.
        node_type, act_fun: BrainCog node and surrogate class, or their names.
        threshold, tau: firing threshold and membrane time constant of the neurons.
        event_size: side in pixels of the input frames.
        width_divisor: refused; subclasses that can be narrowed take it themselves.
        **node_options: passed on to the neurons, as BrainCog's models do.
    """

    num_features: int
    rgb_fc: nn.Module
    dvs_fc: nn.Module
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
            what = f"--width-divisor {width_divisor}: {type(self).__name__} has fixed widths"
            raise UserError(f"{what}. Leave the option away.")
        self.num_classes, self.event_size = num_classes, event_size
        self.node_class = node_class(node_type)
        refuse_unknown(node_options, self.node_class, TransferModel)
        given = {"threshold": threshold, "tau": tau, "act_fun": surrogate_class(act_fun)}
        self.node_options = node_options | given
        self.node = partial(self.node_class, step=step, **self.node_options)

    @classmethod
    def create(cls, pretrained: bool = False, **kwargs) -> "TransferModel":
        """What timm's ``create_model`` calls."""
        return cls(**timm_options(pretrained, kwargs))

    def finish(self) -> None:
        """Call at the end of ``__init__``; a UserError for a layer with the name of a method."""
        for name in self._modules:
            if hasattr(type(self), name):
                what = f"{type(self).__name__}: {name} is a method of the transfer models"
                raise UserError(f"{what}; give the layer another name.")
        make_exact(self)

    def block_list(self) -> Sequence[nn.Module]:
        """The modules that a frame passes, in order, up to F_t (flattened after the last one)."""
        raise NotFoldable("it has features() of its own and no block_list()")

    def stem_of(self, stream: str) -> Sequence[nn.Module]:
        """The modules that a frame of ``stream`` passes before those of :meth:`block_list`."""
        return []

    def head_of(self, stream: str) -> nn.Module:
        """The linear head of ``stream`` (``static`` or ``event``)."""
        return self.rgb_fc if stream == "static" else self.dvs_fc

    @property
    def tap_node(self) -> nn.Module | None:
        """The neuron whose membrane is the tap; None where the tap is F_t itself."""
        return None

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """One time-step ``[B, 2, H, W]`` (or what the stem makes of it) -> (tap ``[B, D]``, spike
        feature ``[B, F]``)."""
        for block in self.block_list():
            x = block(x)
        spikes = x.flatten(1)
        return spikes if self.tap_node is None else membrane(self.tap_node), spikes

    def classify(self, spikes: Tensor, stream: str) -> Tensor:
        """Spike feature ``[B, F]`` -> logits ``[B, N]`` by the head of ``stream``."""
        return self.head_of(stream)(spikes)

    def run_stream(self, x: Tensor, stream: str) -> StreamOutput:
        """Reset all neurons and run ``[B, T, 2, H, W]`` step by step, head of ``stream`` last."""
        self.reset()
        found, stems, stem = [], [], self.stem_of(stream)
        for frame in x.unbind(dim=1):
            for block in stem:
                frame = block(frame)
            stems += [frame] if stem else []
            tap, spikes = self.features(frame)
            found.append((self.classify(spikes, stream), tap, spikes))
        logits, taps, spikes = (widen(torch.stack(steps)) for steps in zip(*found, strict=True))
        return StreamOutput(logits, taps, spikes, summed(torch.stack(stems)) if stem else None)

    def forward(self, events: Tensor, static: Tensor | None = None) -> TransferOutput:
        """Run ``static`` first where it is given, then ``events``, both ``[B, T, 2, H, W]``."""
        streams = {"event": events} if static is None else {"static": static, "event": events}
        for name, x in streams.items():
            if x.ndim != 5 or x.shape[1] != self.step or x.shape[2] != 2:
                expected = f"expected [B, T={self.step}, 2, H, W]"
                raise UserError(f"The {name} stream has shape {tuple(x.shape)}; {expected}.")
        if (dtype := next(self.parameters()).dtype) in (torch.bfloat16, torch.float16):
            raise UserError(
                f"The model's weights are {dtype}: keep them in float32 and run it under "
                "torch.autocast (--amp bf16), which leaves neuron state and losses in float32."
            )
        parts = None
        with suppress(NotFoldable):
            parts = self._read(streams) if self.executor == "fused" else None
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

    def _read(self, streams: Iterable[str]) -> tuple[Parts, dict[str, tuple[Parts, Parts]]]:
        """Layers of the backbone, and of each stream's stem and head."""
        for name in ("features", "classify", "run_stream"):
            if getattr(getattr(self, name), "__func__", None) is not getattr(TransferModel, name):
                raise NotFoldable(f"it has a {name}() of its own")
        around = {name: (self.stem_of(name), [self.head_of(name)]) for name in streams}
        ends = {name: (layers(stem), layers(head)) for name, (stem, head) in around.items()}
        parts = layers(self.block_list(), behind=[stem for stem, _ in ends.values()])
        for stem, head in ends.values():
            refuse_shared([*leaves(stem), *leaves(parts), *leaves(head)])
        if self.tap_node is not None and not any(node is self.tap_node for node in leaves(parts)):
            raise NotFoldable("its tap_node is in none of its block_list()")
        return parts, ends

    def _run_fused(
        self, streams: dict[str, Tensor], backbone: Parts, ends: dict[str, tuple[Parts, Parts]]
    ) -> dict[str, StreamOutput]:
        x = torch.stack([x.transpose(0, 1) for x in streams.values()])
        S, T, B = x.shape[:3]
        x = x.flatten(0, 2).contiguous(memory_format=torch.channels_last)
        self.reset()
        stems: dict[str, Any] = dict.fromkeys(streams)
        if any(stem for stem, _ in ends.values()):
            own = zip(streams, x.chunk(S), strict=True)
            stems = {name: run(ends[name][0], Folded(part), Plan(1, T, B)).x for name, part in own}
            x = torch.cat([*stems.values()])
            stems = {name: summed(part.unflatten(0, (T, B))) for name, part in stems.items()}
        spikes = run(backbone, Folded(x), Plan(S, T, B), self.tap_node).x.flatten(1)
        taps = spikes if self.tap_node is None else membrane(self.tap_node)
        outputs = {}
        for name, tap, feature in zip(streams, taps.chunk(S), spikes.chunk(S), strict=True):
            logits = run(ends[name][1], Folded(feature), Plan(1, T, B)).x
            logits, tap, feature = (widen(f.unflatten(0, (T, B))) for f in (logits, tap, feature))
            outputs[name] = StreamOutput(logits, tap, feature, stems[name])
        return outputs

    def _rest(self) -> None:
        """Reset all neurons, so that no graph stays in them, but leave what they collected."""
        for node in self.modules():
            if isinstance(node, BaseNode):
                collected = node.feature_map, node.mem_collect
                node.n_reset()
                node.feature_map, node.mem_collect = collected


def summed(x: Tensor) -> Tensor:
    """``[T, B, ...]`` -> its sum over time ``[B, D']``, in float32 or wider."""
    return widen(x).sum(dim=0).flatten(1)


def membrane(node: nn.Module) -> Tensor:
    """Membrane potential ``[B, D]`` of a node after its step, reset included; a UserError where it
    has none (``ReLUNode`` and the like)."""
    if not isinstance(node.mem, Tensor):
        what = f"{type(node).__name__} keeps no membrane potential, so there is nothing to align"
        raise UserError(f"{what}: choose a spiking node such as LIFNode.")
    return node.mem.flatten(1)
