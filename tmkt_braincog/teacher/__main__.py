"""``python -m tmkt_braincog.teacher train``: an ANN teacher for the methods that distil (ckd, seal)."""

import argparse
import sys
from argparse import BooleanOptionalAction
from pathlib import Path

from ..arguments import Parser, positive, positive_int
from ..data import make_split
from ..engine.build import choose_device
from ..engine.compare import load_data
from ..errors import UserError, unknown_name
from ..options import parse, resolve
from ..terminal import guarded
from .checkpoint import teacher_path
from .train import held_out, make_teacher
from .view import VIEWS

PROGRAM = "python -m tmkt_braincog.teacher"
USAGE = f"""\
usage: {PROGRAM} train [options] [options of main_transfer.py]

  train  train any image model of timm on what a run trains on, and write a checkpoint for --teacher-checkpoint"""
DESCRIPTION = """\
Train an image model of timm on the static images (or on the time-means of the recordings) that a run may train on, and write a
checkpoint for --teacher-checkpoint. Data, split and seed are those of main_transfer.py: give the run's own options (-c,
--target-dataset, --data-root, --shots, --protocol, --seed ...). Under the clean protocol no twin of a held-out recording is
trained on; a run whose split would make a teacher leak refuses it."""
EPILOG = f"""\
examples:
  {PROGRAM} train --target-dataset NCALTECH101 --data-root DATA --teacher-checkpoint results/ncaltech-{{seed}}.pt
  {PROGRAM} train --on events --teacher resnet18 --teacher-size 48 --no-pretrained -c run_scripts/nmnist_fewshot.yaml \\
      --data-root DATA --shots 5 --seed 1 2 3 4 5"""


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if argv else 2
    return guarded(lambda: _run(argv[0], argv[1:]))


def teacher_parser() -> Parser:
    """The teacher's own options."""
    parser = Parser(
        prog=f"{PROGRAM} train",
        usage="%(prog)s [options] [options of main_transfer.py]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--teacher",
        default="wide_resnet101_2",
        metavar="MODEL",
        help="timm's name (default: wide_resnet101_2)",
    )
    add("--on", choices=VIEWS, default="static", help="static images, for ckd (default); or events, for seal")
    add(
        "--teacher-size",
        type=positive_int,
        metavar="PIXELS",
        help="side of its input (default: the model's own)",
    )
    add(
        "--pretrained", action=BooleanOptionalAction, default=True, help="start from timm's weights (default)"
    )
    add("--teacher-weights", type=Path, metavar="FILE", help="start from the weights in this file instead")
    add("--teacher-epochs", type=positive_int, default=20, metavar="N", help="epochs (default: 20)")
    add(
        "--teacher-batch-size",
        type=positive_int,
        default=64,
        metavar="B",
        help="images per step (default: 64)",
    )
    add(
        "--teacher-lr",
        type=positive,
        default=3e-4,
        metavar="RATE",
        help="largest learning rate (default: 3e-4)",
    )
    add(
        "--teacher-checkpoint",
        metavar="FILE",
        help="file to write; {seed} in it stands for the seed (default: results/teachers/<data>-<on>-<model>-{seed}.pt)",
    )
    return parser


def _run(command: str, argv: list[str]) -> int:
    if command != "train":
        raise unknown_name("command", command, ["train"])
    if "-h" in argv or "--help" in argv:
        teacher_parser().print_help()
        return 0
    own, rest = teacher_parser().parse_known_args(argv)
    options, _ = resolve(parse(rest))
    default = f"results/teachers/{options.target_dataset}-{own.on}-{own.teacher}-{{seed}}.pt"
    text = own.teacher_checkpoint or default
    if len(options.seed) > 1 and "{seed}" not in text:
        raise UserError(
            f"--seed names {len(options.seed)} seeds, each with a teacher: put {{seed}} into --teacher-checkpoint {text}."
        )
    device, remark = choose_device(options.device)
    data = load_data(options)
    if remark:
        print(remark)
    for seed in options.seed:
        split = make_split(data, options, seed)
        path = teacher_path(text, seed)
        print(f"Seed {seed}. {split.audit}")
        teacher, kept = make_teacher(own, options, data, split, seed, path, device)
        what = "static images" if own.on == "static" else "recordings"
        print(
            f"{teacher.model} at {teacher.size} x {teacher.size}, trained on {len(teacher.trained)} {what}: top-1 "
            f"{teacher.accuracy:.2f} % on {len(held_out(own.on, data, split))} held out. "
            f"{'Already there, kept' if kept else 'Written'}: {path}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
