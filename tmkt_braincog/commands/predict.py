"""``tmkt predict``: what a trained network says of recordings."""

from pathlib import Path

from ..arguments import Parser

DESCRIPTION = """\
Class probabilities of recordings by a trained network, after all time-steps or after each of them.
Files may be of any format that `--target-dataset folder` reads; they become frames as those did
that the network was trained with, which the checkpoint knows. A folder stands for all files below
it. A file that cannot be read does not stop the others: it is named at the end, and the exit
status is 1."""
EPILOG = """\
examples:
  tmkt predict results/compare/runs/tmkt-seed42/best.pt recording.aedat4
      Its classes, and from which time-step on the answer stays.
  tmkt predict best.pt RECORDINGS --over-time --output predictions.csv
      All files below a folder, a row per file and time-step.
  tmkt predict hf:user/name a.raw b.raw --picture predictions.png
      A checkpoint from the Hugging Face Hub; frames and probabilities over time as a picture."""


def build_parser() -> Parser:
    parser = Parser("tmkt predict", description=DESCRIPTION, epilog=EPILOG)
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="best.pt or last.pt of a run, or hf:user/name")
    what = "recordings, or folders of them"
    add("files", nargs="+", type=Path, metavar="FILE", help=what)
    add("--output", type=Path, metavar="FILE", help="write a .csv or .json")
    add("--over-time", action="store_true", help="a row for every time-step in the .csv")
    add("--picture", type=Path, metavar="FILE", help="draw the first five: .png, .pdf or .svg")
    add("--force", action="store_true", help="replace files that exist")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    return parser


def run(argv: list[str]) -> int:
    options = build_parser().parse_args(argv)
    from ..deploy.predict import predict

    return predict(options)
