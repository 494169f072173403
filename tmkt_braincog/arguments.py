"""The command line's options: names, types, defaults and what ``--help`` says."""

import argparse
import difflib
import sys
from argparse import SUPPRESS, ArgumentParser, BooleanOptionalAction
from collections.abc import Sequence
from pathlib import Path

from .errors import UserError

EPILOG = """\
examples:
  {program} --mixup-ratio 0.4
      TMKT on the built-in data (handwritten digits and events emulated from them); needs no download.
  {program} --method event-only baseline tmkt --seed 42 1024 90210 --output results/compare
      Three methods with the same settings, split, data order, initial weights and budget; one table.
  {program} --source-dataset mnist --target-dataset nmnist --data-root DATA --shots 5
      Real recordings, five per class, with all static images of the training set.
  {program} -c results/compare/config.yaml --resume
      Go on with an interrupted run, bit for bit on a CPU.
  torchrun --nproc_per_node=4 {target} --target-dataset NCALTECH101 --data-root DATA
      One training on four GPUs: the batch is shared out, losses and gradients are those of the whole.

A line that carries the baseline's own switches (--domain-loss, --regularization,
--no-sliding-training, --pow) and no --method means the baseline, with every switch that is not given
off, as in the code published with it.
"""


def launch_words() -> tuple[str, str]:
    """How this training program is started here: by itself, and what ``torchrun`` starts."""
    if Path(sys.argv[0]).name == "main_transfer.py":
        return "python main_transfer.py", "main_transfer.py"
    return "tmkt train", "-m tmkt_braincog train"


class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str:
        if action.default in (None, False, SUPPRESS):
            return action.help
        return super()._get_help_string(action)


class Parser(ArgumentParser):
    """Errors are :class:`UserError`, with near misses for a mistyped option."""

    def error(self, message: str):
        known = [o for a in self._actions for o in a.option_strings]
        for word in message.removeprefix("unrecognized arguments: ").split():
            close = difflib.get_close_matches(word.split("=")[0], known, n=2)
            if message.startswith("unrecognized") and word.startswith("-") and close:
                message += f". Did you mean {' or '.join(close)}?"
                break
        raise UserError(f"{message}\nRun with --help for all options.")


def positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, seen {text}")
    return value


def fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, seen {text}")
    return value


def non_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, seen {text}")
    return value


def power(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, or inf, seen {text}")
    return value


def epoch_or_share(text: str) -> float | str:
    """An epoch, or a share of them in percent, which stays text."""
    if not text.endswith("%"):
        return non_negative(text)
    if not 0 <= float(text[:-1]) <= 100:
        raise argparse.ArgumentTypeError(f"expected 0% to 100%, seen {text}")
    return text


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, seen {text}")
    return value


def natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 0, seen {text}")
    return value


def build_parser() -> ArgumentParser:
    """The parser with the project's defaults; data sets' recipes are applied by :func:`resolve`."""
    program, target = launch_words()
    parser = Parser(
        prog=program,
        usage="%(prog)s [options]",
        description="Static-to-event transfer for spiking networks: event-only training, the baseline of\n"
        "He et al. (AAAI 2024) and TMKT side by side, on BrainCog's models.",
        epilog=EPILOG.format(program=program, target=target),
        formatter_class=_Help,
        allow_abbrev=False,
    )
    _run_options(parser.add_argument_group("run"))
    _data_options(parser.add_argument_group("data"))
    _model_options(parser.add_argument_group("model (BrainCog backbone and neurons)"))
    _shared_loss_options(parser.add_argument_group("losses shared by the methods"))
    _baseline_options(parser.add_argument_group("baseline (He et al.)"))
    _tmkt_options(parser.add_argument_group("TMKT: mixing, heads, alignment"))
    _distillation_options(parser.add_argument_group("distillation from a teacher (CKD, SeAl-KD)"))
    _optimiser_options(parser.add_argument_group("optimisation (timm)"))
    return parser


# Groups of options that concern every method, by the first word of their titles.
GENERAL_GROUPS = ("run", "data", "model", "optimisation")


def group_options(titles: Sequence[str]) -> set[str]:
    """Names (as in the resolved options) of all options in these groups."""
    groups = build_parser()._action_groups
    return {a.dest for g in groups if g.title.split()[0] in titles for a in g._group_actions}


def _run_options(group) -> None:
    add = group.add_argument
    add(
        "-c",
        "--config",
        metavar="RECIPE",
        help="option defaults: a recipe by name (ncaltech, quickstart, ...) or a FILE.yaml; the command line wins",
    )
    add(
        "--method",
        nargs="+",
        metavar="NAME",
        help="one or several of: event-only, baseline, tmkt, ckd, seal; + joins a part: tmkt+seal, tmkt+ckd (default: "
        "tmkt; with the baseline's own switches: baseline)",
    )
    add(
        "--seed",
        nargs="+",
        type=natural,
        default=[42],
        metavar="N",
        help="one or several seeds; a seed fixes weights, shots, order, partners, mixing and augmentation",
    )
    add(
        "--output",
        metavar="DIR",
        help="folder of the runs and the table (default: results/<data>-<methods>-<time>)",
    )
    add(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="continue the runs in --output where they stopped (finished ones are kept); with a file: "
        "continue from that checkpoint",
    )
    add(
        "--eval", action="store_true", help="only evaluate --eval_checkpoint on the test recordings"
    )
    add("--eval_checkpoint", "--eval-checkpoint", metavar="FILE", help="checkpoint for --eval")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, or the number of a GPU")
    add(
        "--amp",
        choices=["none", "bf16"],
        default="none",
        help="bf16: convolutions in bfloat16; neuron state and losses stay float32",
    )
    add(
        "-j", "--workers", type=natural, default=0, help="data-loading processes; changes no result"
    )
    add("--tensorboard", action=BooleanOptionalAction, default=True, help="write TensorBoard logs")
    add(
        "--log-interval",
        type=positive_int,
        default=50,
        metavar="STEPS",
        help="steps between looks at the loss (the only host synchronisation while an epoch runs)",
    )


def _data_options(group) -> None:
    add = group.add_argument
    add(
        "--source-dataset",
        metavar="NAME",
        help="static images (default: those that belong to the target)",
    )
    add(
        "--target-dataset",
        default="ndigits",
        metavar="NAME",
        help="event recordings: ndigits (built in, emulated), nmnist, NCALTECH101, CEP-DVS, N-OMNIGLOT, CIFAR10-DVS",
    )
    add("--data-root", metavar="DIR", help="folder that holds the data sets' own folders")
    add(
        "--download",
        action="store_true",
        help="fetch missing data into --data-root where a public link exists",
    )
    add("--num-classes", type=positive_int, help="checked against the data; not needed")
    add("--step", type=positive_int, default=10, metavar="T", help="time-steps T")
    add(
        "--event-size",
        type=positive_int,
        default=48,
        metavar="PIXELS",
        help="side of the frames after resizing",
    )
    add(
        "--frame-mode",
        choices=["count", "event", "frequency"],
        default="count",
        help="what a frame holds: event counts; 1 where any event fell; counts over the largest of their frame and "
        "polarity (default for N-OMNIGLOT)",
    )
    add(
        "--train-portion",
        type=fraction,
        help="share of every class that trains, where the data set has no split of its own (default: the data set's)",
    )
    add(
        "--traindata-ratio",
        type=fraction,
        default=1.0,
        help="share of the training recordings of every class to use",
    )
    add(
        "--shots",
        type=positive_int,
        metavar="K",
        help="train on K recordings per class (seeded choice) and all static images; the rest of the training recordings validates",
    )
    add(
        "--leftover",
        choices=["validation", "parity"],
        default="validation",
        help="what --shots leaves over: all validates; or even file numbers validate and odd ones join the test "
        "(for subsets with a small test folder)",
    )
    add(
        "--val-portion",
        type=fraction,
        default=0.0,
        help="carve this share of every class out of the training recordings to choose the best epoch",
    )
    add(
        "--protocol",
        choices=["clean", "he2024", "leak"],
        default="clean",
        help="clean: static twins of validation and test recordings are never trained on; he2024: the static "
        "draw of the reference, leaks included; leak: clean, but with the twins of the test recordings in place of as many "
        "other images, to measure what twins give",
    )
    add(
        "--static-images",
        type=positive_int,
        metavar="N",
        help="train with N static images per class, chosen by the seed (default: all)",
    )
    add(
        "--augment",
        choices=["none", "crop", "dvs-da"],
        default="none",
        help="event augmentation: crop (padding 4); dvs-da (crop, flip, 15 degrees)",
    )
    add(
        "--DVS-DA",
        action="store_const",
        dest="augment",
        const="dvs-da",
        default="none",
        help="same as --augment dvs-da, as published command lines say it",
    )
    add(
        "--use-hsv",
        action=BooleanOptionalAction,
        default=True,
        help="static images by the V channel of HSV; --no-use-hsv: by their last RGB channel. No difference for grey images",
    )


def _model_options(group) -> None:
    add = group.add_argument
    add(
        "--model",
        default="Transfer_VGG_SNN",
        help="Transfer_VGG_SNN, Transfer_ResNet18, Transfer_SEWResNet18, Transfer_SCNN or a TransferModel of your own in timm's registry",
    )
    add(
        "--width-divisor",
        type=positive_int,
        default=1,
        metavar="N",
        help="divide the channels of all layers by N, for small data and small machines; not for Transfer_SCNN",
    )
    add("--node-type", default="LIFNode", help="BrainCog neuron: LIFNode, IFNode, PLIFNode, ...")
    add(
        "--act-fun",
        default="QGateGrad",
        help="BrainCog surrogate gradient: QGateGrad, AtanGrad, BackEIGateGrad, ...",
    )
    add("--threshold", type=positive, default=0.5, help="firing threshold")
    add(
        "--executor",
        choices=["fused", "step"],
        default="fused",
        help="fused: all streams and time-steps of a layer at once; step: the loop of BrainCog and the reference. The "
        "same numbers up to rounding",
    )
    add(
        "--sync-bn",
        action="store_true",
        help="under torchrun: BatchNorm statistics over the whole batch instead of each process's part of it",
    )
    add("--tau", type=positive, default=2.0, help="membrane time constant, in time-steps")


def _shared_loss_options(group) -> None:
    add = group.add_argument
    add(
        "--TET-loss",
        action=BooleanOptionalAction,
        default=True,
        dest="TET_loss",
        help="cross-entropy at every time-step; off: of the mean output",
    )
    add("--smoothing", type=fraction, default=0.0, help="label smoothing")
    add(
        "--domain-loss-coefficient",
        type=non_negative,
        default=0.5,
        metavar="LAMBDA",
        help="weight lambda of the domain alignment (baseline and TMKT)",
    )
    add(
        "--theta",
        choices=["learned", "fixed"],
        default="learned",
        help="per-step coefficients sigma(theta_t): learned, or kept at sigma(1) = 0.731",
    )


def _baseline_options(group) -> None:
    add = group.add_argument
    add("--domain-loss", action=BooleanOptionalAction, default=True, help="domain alignment by CKA")
    add(
        "--regularization",
        action=BooleanOptionalAction,
        default=True,
        help="per-step coefficients sigma(theta_t) on alignment and event loss",
    )
    add(
        "--sliding-training",
        action=BooleanOptionalAction,
        default=True,
        help="replace static samples by events with probability (progress)^pow; off: none in the first half, all in the second, and no domain loss (as the reference does)",
    )
    add(
        "--pow",
        type=power,
        default=3,
        help="power of the sliding probability; 0: always replaced, inf: never",
    )


def _tmkt_options(group) -> None:
    add = group.add_argument
    add(
        "--mixup-strategy",
        default="tsm",
        metavar="NAME",
        help="tsm, fixed, linear, nonlinear or sliding",
    )
    add(
        "--mixup-ratio",
        type=float,
        default=0.4,
        metavar="R_M",
        help="expected share of event frames in the mixed stream, inside (0, 1)",
    )
    add(
        "--mixup-law",
        choices=["geometric", "truncated"],
        default="geometric",
        help="law of t*: the walk as described, or Eq. 8 (given that a replacement happens)",
    )
    add("--mag-weight", type=non_negative, default=1.0, help="weight of L_MAG; 0: no such head")
    add("--mrp-weight", type=non_negative, default=1.0, help="weight of L_MRP; 0: no such head")
    add(
        "--rda-form",
        choices=["equation", "reference", "off"],
        default="equation",
        help="lambda acts on alignment and event loss (Eq. 12, 17), or on the alignment only (the baseline's code); off: no "
        "alignment, a plain event loss of weight 1 is left",
    )
    for head in ("mag", "mrp"):
        help = f"same as --{head}-weight 0"
        add(
            f"--no-{head}",
            action="store_const",
            dest=f"{head}_weight",
            const=0.0,
            default=1.0,
            help=help,
        )
    add(
        "--no-rda",
        action="store_const",
        dest="rda_form",
        const="off",
        default="equation",
        help="same as --rda-form off",
    )


def _distillation_options(group) -> None:
    add = group.add_argument
    add(
        "--teacher-checkpoint",
        nargs="+",
        metavar="FILE",
        help="of `tmkt teacher train`: one trained on static images for ckd, one on events for seal; {seed} "
        "in a name stands for the run's seed",
    )
    add(
        "--ckd-k",
        type=non_negative,
        default=100.0,
        metavar="K",
        help="how suddenly ckd ends, per epoch",
    )
    add(
        "--ckd-on",
        choices=["logits", "features"],
        default="logits",
        help="what ckd distils: the teacher's logits, or its pooled features by a learned linear map (FitNets)",
    )
    add(
        "--ckd-threshold",
        type=epoch_or_share,
        metavar="EPOCH",
        help="e_th, the epoch in which ckd ends, or a share of the epochs such as 25%% (default: half of them)",
    )


def _optimiser_options(group) -> None:
    add = group.add_argument
    add("--epochs", type=positive_int, default=300, help="epochs")
    add(
        "-b",
        "--batch-size",
        type=positive_int,
        default=120,
        help="recordings per step, of all processes together",
    )
    add(
        "--epoch-size",
        type=positive_int,
        metavar="N",
        help="recordings per epoch; beyond the training set's size they repeat, with new partners and mixing (default: the training set's size)",
    )
    add(
        "--sampling",
        choices=["shuffle", "balanced"],
        default="shuffle",
        help="balanced: classes equally often, with replacement",
    )
    add("--opt", default="adamw", help="timm optimiser")
    add(
        "--lr",
        type=non_negative,
        default=5e-3,
        help="learning rate for a batch of 1024; scaled by batch / 1024",
    )
    add(
        "--weight-decay",
        type=non_negative,
        default=0.01,
        help="not applied to one-dimensional parameters",
    )
    add(
        "--clip-grad",
        type=non_negative,
        metavar="NORM",
        help="clip the gradient norm (default: no clipping)",
    )
    add(
        "--sched",
        default="cosine",
        help="timm scheduler, stepped once an epoch: cosine to 1e-5, step by 0.1, ...",
    )
    add(
        "--warmup-epochs",
        type=natural,
        default=5,
        help="epochs of linear warm-up from a learning rate of 1e-6",
    )
    add(
        "--decay-epochs",
        type=positive,
        default=30,
        help="epochs between decays of the step scheduler",
    )
    add(
        "--eval-interval",
        type=positive_int,
        default=1,
        metavar="EPOCHS",
        help="epochs between evaluations; the last epoch is always evaluated",
    )
