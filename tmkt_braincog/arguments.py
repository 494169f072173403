"""The command line's options: names, types, defaults and what ``--help`` says."""

import argparse
import difflib
import sys
from argparse import SUPPRESS, ArgumentParser, BooleanOptionalAction
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .argument_types import (
    duration,
    epoch_or_share,
    fraction,
    natural,
    non_negative,
    positive,
    positive_int,
    power,
)
from .errors import UserError

DESCRIPTION = """\
Static-to-event transfer for spiking networks: event-only training, the baseline of
He et al. (AAAI 2024) and TMKT side by side, on BrainCog's models."""
EPILOG = """\
examples:
  {program} --mixup-ratio 0.4
      TMKT on the built-in data (handwritten digits, events emulated from them); needs no download.
  {program} --method event-only baseline tmkt --seed 42 1024 90210 --output results/compare
      Three methods with the same settings, split, data order, weights and budget; one table.
  {program} --source-dataset mnist --target-dataset nmnist --data-root DATA --shots 5
      Real recordings, five per class, with all static images of the training set.
  {program} -c results/compare/config.yaml --resume
      Go on with an interrupted run, bit for bit on a CPU.
  torchrun --nproc_per_node=4 {target} --target-dataset NCALTECH101 --data-root DATA
      One training on four GPUs: the batch is shared out, its losses and gradients are unchanged.

A line that carries the baseline's own switches (--domain-loss, --regularization,
--no-sliding-training, --pow) and no --method means the baseline, with every switch that is not
given off, as in the code published with it.
"""


class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default in (None, False, SUPPRESS)
        return action.help if silent else super()._get_help_string(action)


class Parser(ArgumentParser):
    """Errors are :class:`UserError`, with near misses for a mistyped word; texts stay as is."""

    def __init__(self, *given: Any, **how: Any):
        looks = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(*given, **{**looks, **how})

    def error(self, message: str) -> NoReturn:
        known = [o for a in self._actions for o in a.option_strings]
        for word in message.removeprefix("unrecognized arguments: ").split():
            close = difflib.get_close_matches(word.split("=")[0], known, n=2)
            if message.startswith("unrecognized") and word.startswith("-") and close:
                message += f". Did you mean {' or '.join(close)}?"
                break
        raise UserError(f"{message}\nRun with --help for all options.")


def launch_words() -> tuple[str, str]:
    """How this training program is started here: by itself, and what ``torchrun`` starts."""
    if Path(sys.argv[0]).name == "main_transfer.py":
        return "python main_transfer.py", "main_transfer.py"
    return "tmkt train", "-m tmkt_braincog train"


def build_parser() -> ArgumentParser:
    """The parser with the project's defaults; data sets' recipes are applied by ``resolve``."""
    program, target = launch_words()
    epilog = EPILOG.format(program=program, target=target)
    looks = {"usage": "%(prog)s [options]", "description": DESCRIPTION, "formatter_class": _Help}
    parser = Parser(prog=program, epilog=epilog, **looks)
    for title, options in OPTIONS.items():
        add = adder(parser.add_argument_group(title))
        for words, kind, default, text, *more in options:
            add(words, kind, default, text, **dict(*more))
    return parser


def names_by_word() -> dict[str, str]:
    """What every word for an option sets, by its name in the resolved options."""
    return {word: a.dest for a in build_parser()._actions for word in a.option_strings}


def group_options(titles: Sequence[str]) -> set[str]:
    """Names (as in the resolved options) of all options in these groups."""
    groups = [g for g in build_parser()._action_groups if str(g.title).split()[0] in titles]
    return {action.dest for group in groups for action in group._group_actions}


Add = Callable[..., None]


def adder(group: argparse._ActionsContainer) -> Add:
    """What gives a parser or a group of one its options, in a line or two each."""

    def add(words: str, kind: Any, default: Any, text: str, **more: Any) -> None:
        """An option from ``"-n --name METAVAR"``.

        Its kind is a type, a list of choices, ``bool`` for a switch with --name and --no-name, None
        for one with --name alone, or ``dest=value``, which the option is short for.
        """
        *names, last = words.split()
        if last.startswith("-"):
            names.append(last)
        else:
            more["metavar"] = last
        if isinstance(kind, dict):
            ((dest, const),) = kind.items()
            more |= {"action": "store_const", "dest": dest, "const": const}
        elif kind in (bool, None):
            more["action"] = BooleanOptionalAction if kind else "store_true"
        else:
            more["choices" if isinstance(kind, list) else "type"] = kind
        group.add_argument(*names, default=default, help=text, **more)

    return add


VL2SPIKE_TERMS = ["image", "membrane", "rate", "prototype", "word"]

# By the titles of --help, what `adder` takes: words and metavar, kind, default, help, more.
# fmt: off
OPTIONS: dict[str, list[tuple]] = {
    "run": [
        ("-c --config RECIPE", str, None, "option defaults: a recipe by name (ncaltech, "
         "quickstart, ...) or a FILE.yaml; the command line wins"),
        ("--method NAME", str, None, "one or several of: event-only, finetune, baseline, tmkt, "
         "r2etl, ckd, vl2spike, seal, etc, tks; + joins one of the last five to another: tmkt+ckd, "
         "tmkt+seal (default: tmkt; with the baseline's own switches: baseline)", {"nargs": "+"}),
        ("--seed N", natural, [42], "one or several seeds; a seed fixes weights, shots, order, "
         "partners, mixing and augmentation", {"nargs": "+"}),
        ("--output DIR", str, None, "of runs and table (default: results/<data>-<methods>-<time>)"),
        ("--resume CHECKPOINT", str, None, "go on with the runs in --output (finished ones are "
         "kept); with a file: continue from that checkpoint", {"nargs": "?", "const": "auto"}),
        ("--eval", None, False, "only evaluate --eval_checkpoint on the test recordings"),
        ("--eval_checkpoint --eval-checkpoint FILE", str, None, "for --eval; also hf:user/name"),
        ("--device", str, "auto", "auto, cpu, cuda, cuda:1, or the number of a GPU"),
        ("--amp", ["none", "bf16"], "none", "bf16: convolutions in bfloat16, all else in float32"),
        ("--tensorboard", bool, True, "write TensorBoard logs"),
        ("--log-interval STEPS", positive_int, 50, "steps between looks at the loss"),
    ],
    "data": [
        ("--source-dataset NAME", str, None,
         "static images (default: those that belong to the target)"),
        ("--target-dataset NAME", str, "ndigits", "event recordings: ndigits (built in, emulated), "
         "nmnist, NCALTECH101, CEP-DVS, N-OMNIGLOT, CIFAR10-DVS, E-CALTECH101, folder (your own)"),
        ("--data-root DIR", str, None, "folder that holds the data sets' own folders"),
        ("--download", None, False, "fetch missing data into --data-root where a public link "
         "exists"),
        ("--num-classes", positive_int, None, "checked against the data; not needed"),
        ("--step T", positive_int, 10, "time-steps T"),
        ("--event-size PIXELS", positive_int, 48, "side of the frames after resizing"),
        ("--frame-mode", ["count", "event", "frequency"], "count", "what a frame holds: event "
         "counts; 1 where any event fell; counts over the largest of their frame and polarity "
         "(default for N-OMNIGLOT)"),
        ("--train-portion", fraction, None, "share of every class that trains, where the data set "
         "has no split of its own (default: the data set's)"),
        ("--window LENGTH", duration, None, "folder: cut recordings that are longer than this, "
         "such as 100ms, into windows of this length (default: none is cut)"),
        ("--time-unit", ["ns", "us", "ms", "s"], None, "folder: unit of the times in files that do "
         "not say it (default: told by the rate of events)"),
        ("--traindata-ratio", fraction, 1.0,
         "share of the training recordings of every class to use"),
        ("--shots K", natural, None, "train on K recordings per class (seeded choice) and all "
         "static images; the rest of the training recordings validates. 0: on images alone "
         "(finetune)"),
        ("--leftover", ["validation", "parity", "test"], "validation", "what --shots leaves over: "
         "all validates; even file numbers validate and odd ones join the test; or all is tested "
         "but --val-portion of all recordings, the same ones for every seed (for subsets with a "
         "small test folder)"),
        ("--val-portion", fraction, 0.0,
         "carve this share of every class out of the training recordings to choose the best epoch"),
        ("--protocol", ["clean", "he2024", "leak"], "clean", "clean: images that validation and "
         "test recordings were made from are never trained on; he2024: the static draw of the "
         "reference, leaks included; leak: clean, but with the images of the test recordings in "
         "place of as many others, to measure what that gives"),
        ("--static-images N", positive_int, None,
         "train with N static images per class, chosen by the seed (default: all)"),
        ("--augment", ["none", "crop", "dvs-da", "nda", "nda-wide", "eventmix"], "none",
         "event augmentation: crop (padding 4); dvs-da (crop, flip, 15 degrees); nda (flip, and a "
         "roll, turn or shear, of up to 3 pixels or 15 degrees), nda-wide (5 pixels, 30 degrees); "
         "eventmix (a part of the recording is that of another one of its class)"),
        ("--DVS-DA", {"augment": "dvs-da"}, "none",
         "same as --augment dvs-da, as published command lines say it"),
    ],
    "model (BrainCog backbone and neurons)": [
        ("--model", str, "Transfer_VGG_SNN", "Transfer_VGG_SNN, Transfer_ResNet18, "
         "Transfer_SEWResNet18, Transfer_SCNN, Transfer_Spikformer or a TransferModel of your own "
         "in timm's registry"),
        ("--width-divisor N", positive_int, 1, "divide all channels by N; not for Transfer_SCNN"),
        ("--node-type", str, "LIFNode", "BrainCog neuron: LIFNode, IFNode, PLIFNode, ..."),
        ("--act-fun", str, "QGateGrad", "BrainCog surrogate gradient: QGateGrad, AtanGrad, ..."),
        ("--threshold", positive, 0.5, "firing threshold"),
        ("--executor", ["fused", "step"], "fused", "fused: all streams and time-steps of a layer "
         "at once; step: the loop of BrainCog and the reference. The same numbers up to rounding"),
        ("--tau", positive, 2.0, "membrane time constant, in time-steps"),
    ],
    "static stream": [
        ("--source-encoding", ["repeat", "i2e", "saccade"], "repeat", "frames of the static "
         "stream: the image at every time-step; differences of shifted images (I2E); or a "
         "recording of it by an emulated event camera, made once and cached"),
        ("--i2e-ratio", positive, 0.12, "i2e: an event where the difference is at least this share "
         "of the image's contrast; published: 0.07 (CIFAR), 0.12 (224 pixels), 0.14 (CIFAR10-DVS)"),
        ("--camera NAME=VALUE", str, None, "saccade: numbers of the emulated camera, such as "
         "flip=true vary=1; `tmkt data emulate --help` lists them", {"nargs": "+"}),
    ],
    "losses shared by the methods": [
        ("--TET-loss", bool, True, "cross-entropy at every time-step; off: of the mean output"),
        ("--smoothing", fraction, 0.0, "label smoothing"),
        ("--domain-loss-coefficient LAMBDA", non_negative, 0.5, "weight of the domain alignment"),
        ("--theta", ["learned", "fixed"], "learned", "fixed: per-step coefficients of 0.731"),
    ],
    "baseline (He et al.)": [
        ("--domain-loss", bool, True, "domain alignment by CKA"),
        ("--regularization", bool, True, "coefficients sigma(theta_t) on alignment and event loss"),
        ("--sliding-training", bool, True, "replace static samples by events with probability "
         "(progress)^pow; off: none in the first half, all in the second, and no domain loss (as "
         "the reference does)"),
        ("--pow", power, 3, "power of the sliding probability; 0: always replaced, inf: never"),
    ],
    "TMKT: mixing, heads, alignment": [
        ("--mixup-strategy NAME", str, "tsm", "tsm, fixed, linear, nonlinear or sliding"),
        ("--mixup-ratio R_M", float, 0.4, "expected share of event frames, inside (0, 1)"),
        ("--mixup-law", ["geometric", "truncated"], "geometric",
         "distribution of t*: as described, where a sample may stay all image, or Eq. 8 (given "
         "that a replacement happens)"),
        ("--mag-weight", non_negative, 1.0, "weight of L_MAG; 0: no such head"),
        ("--mrp-weight", non_negative, 1.0, "weight of L_MRP; 0: no such head"),
        ("--rda-form", ["equation", "reference", "off"], "equation", "lambda acts on alignment and "
         "event loss (Eq. 12, 17), or on the alignment only (the baseline's code); off: no "
         "alignment, a plain event loss of weight 1 is left"),
        ("--no-mag", {"mag_weight": 0.0}, 1.0, "same as --mag-weight 0"),
        ("--no-mrp", {"mrp_weight": 0.0}, 1.0, "same as --mrp-weight 0"),
        ("--no-rda", {"rda_form": "off"}, "equation", "same as --rda-form off"),
    ],
    "distillation from a teacher (CKD, SeAl-KD, VL2Spike)": [
        ("--teacher-checkpoint FILE", str, None, "of `tmkt teacher train`: one trained on static "
         "images for ckd, one on events for seal; of `tmkt teacher embed` for vl2spike; {seed} "
         "and {shots} in a name stand for those of the run", {"nargs": "+"}),
        ("--ckd-k K", non_negative, 100.0, "how suddenly ckd ends, per epoch"),
        ("--ckd-on", ["logits", "features"], "logits", "what ckd distils: the teacher's logits, or "
         "its pooled features by a learned linear map (FitNets)"),
        ("--vl2spike-terms", VL2SPIKE_TERMS, VL2SPIKE_TERMS, "terms of vl2spike that are used "
         "(default: all)", {"nargs": "+"}),
        ("--ckd-threshold EPOCH", epoch_or_share, None, "e_th, the epoch in which ckd ends, or a "
         "share of the epochs such as 25%% (default: half of them)"),
    ],
    "optimisation (timm)": [
        ("--epochs", positive_int, 300, "epochs"),
        ("-b --batch-size", positive_int, 120, "recordings per step, of all processes together"),
        ("--epoch-size N", positive_int, None, "recordings per epoch; beyond the training set's "
         "size they repeat, with new partners and mixing (default: the training set's size)"),
        ("--sampling", ["shuffle", "balanced"], "shuffle", "balanced: classes equally often"),
        ("--opt", str, "adamw", "timm optimiser"),
        ("--lr", non_negative, 5e-3, "learning rate for a batch of 1024; scaled by batch / 1024"),
        ("--weight-decay", non_negative, 0.01, "not applied to one-dimensional parameters"),
        ("--clip-grad NORM", non_negative, None, "clip the gradient norm (default: no clipping)"),
        ("--sched", str, "cosine", "timm scheduler, stepped once an epoch: cosine, step, ..."),
        ("--warmup-epochs", natural, 5, "epochs of linear warm-up from a learning rate of 1e-6"),
        ("--decay-rate", positive, 0.1, "factor of the step schedulers"),
        ("--decay-epochs", positive, 30, "epochs between decays of the step scheduler"),
        ("--eval-interval EPOCHS", positive_int, 1, "epochs between evaluations; the last always"),
    ],
}
# fmt: on
# Groups of options that concern every method, by the first word of their titles.
GENERAL_GROUPS = ("run", "data", "model", "optimisation")
