"""One TMKT training step beside SpikingJelly's multi-step mode: step loop, fused executor,
SpikingJelly, in one run.

    pip install -e .[bench]
    python benchmarks/spikingjelly_step.py    # VGG, T = 10, 48 x 48, batch 8 on a CPU, 120 on a GPU
    python benchmarks/spikingjelly_step.py --device cuda --json spikingjelly.json

All four train Transfer_VGG_SNN with the same weights, neurons (LIF, decayed input, hard and
detached reset, triangular surrogate), batch, losses and AdamW. SpikingJelly's is built of its own
layers with step_mode="m", channels last, which is its faster layout in small trials on a CPU;
"spikingjelly" runs as written, "compiled" by torch.compile. Rows: step_time (s, best of --repeat
after one step to warm up) and peak_memory (MiB of tensors above what is there between steps). Each
variant is built, measured and freed before the next; all keep freed memory, as main_transfer.py
does on a CPU.

What is NOT the same:

- BatchNorm. SpikingJelly folds time into the batch: one mean and variance over all T B samples of a
  stream, one update of the running statistics per stream. Step loop and fused executor keep the
  statistics of every step apart, T updates per stream. In evaluation both networks are one
  function; in training they are two;
- under bf16 autocast the membranes are float32 in the step loop, in the fused executor and in
  "compiled", bf16 in "spikingjelly" on a CPU. On a GPU float32 is asked for there too: with bf16
  membranes SpikingJelly leaves its Triton kernels.

SpikingJelly's memopt, which trades time for memory, is not used.

JSON: {"hardware", "versions", "spikingjelly_neurons", "rows": [{"metric", "dtype", "step", "fused",
"spikingjelly", "compiled", "fused_over_step", "fused_over_spikingjelly", "fused_over_compiled"}]};
compiled is null where torch.compile fails or is switched off (TORCH_COMPILE_DISABLE=1).
"spikingjelly_neurons" is the implementation that SpikingJelly chose for the device.
"""

from collections.abc import Sequence
from importlib.metadata import version

import torch
from torch import Tensor, nn
from workload import Workload, add_shape, finish, main, parser, prepare, shape, time_and_memory

from tmkt_braincog.models import StreamOutput, TransferOutput
from tmkt_braincog.models.exact import widen
from tmkt_braincog.models.networks import TransferVGG

try:
    from spikingjelly.activation_based import functional, layer, neuron, surrogate
    from spikingjelly.activation_based.functional import neuron_implementation
except ImportError as error:
    raise SystemExit(f"error: {error}. Run: pip install -e .[bench]") from None

VARIANTS = ("step", "fused", "spikingjelly", "compiled")
METRICS = ("step_time", "peak_memory")
NOTE = """\
SpikingJelly's BatchNorm takes one mean and variance over all T B samples of a stream; step and
fused keep those of every step apart. In evaluation both are one function, in training they are two.
Under bf16 autocast membranes are float32, but on a CPU bf16 in SpikingJelly as written."""


class SpikingJellyVGG(nn.Module):
    """``Transfer_VGG_SNN`` in SpikingJelly's multi-step layers, with the weights of ``source``.

    Takes and returns what ``source`` does: ``[B, T, 2, H, W]`` per stream, static first, neurons
    at rest before each.
    """

    def __init__(self, source: TransferVGG):
        super().__init__()
        self.num_features = source.num_features
        self.feature = nn.Sequential(*_layers(source), layer.Flatten())
        self.tap_node = [m for m in self.feature if isinstance(m, neuron.LIFNode)][-1]
        self.tap_node.store_v_seq = True
        self.rgb_fc = layer.Linear(self.num_features, source.num_classes)
        self.dvs_fc = layer.Linear(self.num_features, source.num_classes)
        functional.set_step_mode(self, "m")
        self.to(dtype=source.rgb_fc[1].weight.dtype, memory_format=torch.channels_last)
        self.load_state_dict(_weights(source, self))

    def run_stream(self, x: Tensor, head: nn.Module) -> StreamOutput:
        functional.reset_net(self)
        spikes = self.feature(x.transpose(0, 1))
        tap = self.tap_node.v_seq.flatten(2)
        functional.reset_net(self)  # or the graph of this step would outlive it
        return StreamOutput(*map(widen, (head(spikes), tap, spikes)))

    def forward(self, events: Tensor, static: Tensor | None = None) -> TransferOutput:
        first = None if static is None else self.run_stream(static, self.rgb_fc)
        return TransferOutput(self.run_stream(events, self.dvs_fc), first)


def _layers(source: TransferVGG) -> list[nn.Module]:
    made = []
    for part in source.feature:
        if isinstance(part, nn.AvgPool2d):
            made.append(layer.AvgPool2d(part.kernel_size))
        else:
            made += [_conv(part.conv), layer.BatchNorm2d(part.conv.out_channels), _lif(part.node)]
    return made


def _conv(conv: nn.Conv2d) -> nn.Module:
    shape = conv.in_channels, conv.out_channels, conv.kernel_size
    return layer.Conv2d(*shape, padding=conv.padding, bias=conv.bias is not None)


def _lif(node: nn.Module) -> nn.Module:
    """BrainCog's LIFNode with QGateGrad, whose derivative is SpikingJelly's PiecewiseQuadratic."""
    return neuron.LIFNode(
        tau=float(node.tau),
        decay_input=True,
        v_threshold=float(node.threshold),
        v_reset=0.0,
        surrogate_function=surrogate.PiecewiseQuadratic(alpha=float(node.act_fun.alpha)),
        detach_reset=True,
    )


def _weights(source: TransferVGG, target: nn.Module) -> dict[str, Tensor]:
    """The weights of ``source`` under ``target``'s names: the layers come in the same order."""
    values = [value for name, value in source.state_dict().items() if ".node." not in name]
    return dict(zip(target.state_dict(), values, strict=True))


def widen_membranes(model: SpikingJellyVGG) -> None:
    """Let the neurons take float32 under bf16 autocast, and so keep float32 membranes."""
    for module in model.feature:
        if isinstance(module, neuron.LIFNode):
            module.register_forward_pre_hook(lambda _, inputs: tuple(map(widen, inputs)))


def build(workload: Workload, variant: str) -> nn.Module:
    if variant in ("step", "fused"):
        return workload.build(variant)
    model = SpikingJellyVGG(workload.build("step"))
    if variant == "compiled" or workload.device == "cuda":
        widen_membranes(model)
    if variant == "compiled":
        model.feature.compile()
    return model


def measure(
    workload: Workload, repeat: int, dtypes: Sequence[str] = ("float32", "bf16")
) -> list[dict]:
    rows = []
    for dtype in dtypes:
        cost = {v: cost_of(workload, v, dtype, repeat) for v in VARIANTS}
        torch._dynamo.reset()
        for metric, values in zip(METRICS, zip(*cost.values(), strict=True), strict=True):
            rows.append(row(metric, dtype, dict(zip(VARIANTS, values, strict=True))))
    return rows


def cost_of(
    workload: Workload, variant: str, dtype: str, repeat: int
) -> tuple[float | None, float | None]:
    """Seconds and MiB; None where the variant cannot run here."""
    if variant == "compiled" and torch._dynamo.config.disable:
        return None, None
    try:
        return time_and_memory(workload, build(workload, variant), dtype, repeat)
    except torch._dynamo.exc.TorchDynamoException as error:
        print(f"{variant}: left out, torch.compile fails: {str(error).strip().splitlines()[0]}")
        return None, None


def row(metric: str, dtype: str, values: dict[str, float | None]) -> dict:
    others = {v: value for v, value in values.items() if v != "fused"}
    ratios = {f"fused_over_{v}": value and values["fused"] / value for v, value in others.items()}
    return {"metric": metric, "dtype": dtype, **values, **ratios}


def run(argv: list[str]) -> int:
    options = parser(__doc__)
    add_shape(options)
    options = options.parse_args(argv)
    workload = Workload(**shape(options))
    prepare(options)
    rows = measure(workload, options.repeat, options.dtype)
    neurons = neuron_implementation("lif", torch.device(options.device))["implementation"]
    versions = {"spikingjelly": version("spikingjelly")}
    print(f"spikingjelly {versions['spikingjelly']} (neurons: {neurons}). {NOTE}")
    return finish(options, workload, rows, versions=versions, spikingjelly_neurons=neurons)


if __name__ == "__main__":
    main(run)
