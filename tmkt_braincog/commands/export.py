"""``tmkt export``: a trained network as a file that runs without this package."""

from pathlib import Path

from ..arguments import Parser
from ..errors import UserError

SUFFIXES = {"torch": ".pt2", "onnx": ".onnx", "nir": ".nir", "checkpoint": ".small.pt"}
DESCRIPTION = """\
Write the event stream of a checkpoint as a program of its own, with BatchNorm folded into the
weights: frames [B, T, 2, H, W] -> logits [B, T, N], whose mean over T decides. Class names and how
recordings become frames travel in the file. The file is run and compared with the checkpoint before
it appears; above a difference of 1e-4 there is none (docs/deploy.md)."""
EPILOG = """\
formats:
  torch  torch.export.load runs it; torch alone is needed
  onnx   onnxruntime and others run it
  nir    a graph of neurons for simulators (Norse, snnTorch) and neuromorphic hardware
  checkpoint  this program's own, without what only further training needs: a third of the size

examples:
  tmkt export results/quickstart/runs/tmkt-seed42/best.pt --to torch
      Writes best.pt2 beside it.
  pip install 'tmkt-braincog[export]'   # for onnx and nir
  tmkt export results/quickstart/runs/tmkt-seed42/best.pt --to onnx --output digits.onnx
  tmkt export results/quickstart/runs/tmkt-seed42/best.pt --to nir --force
      Writes best.nir, in place of one that is there."""


def build_parser() -> Parser:
    parser = Parser("tmkt export", description=DESCRIPTION, epilog=EPILOG)
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="best.pt or last.pt of a run, or hf:user/name")
    add("--to", choices=[*SUFFIXES], required=True, help="format of the file, see below")
    where = f"file to write (default: beside the checkpoint, {', '.join(SUFFIXES.values())})"
    add("--output", metavar="FILE", type=Path, help=where)
    add("--force", action="store_true", help="replace a file that exists")
    return parser


def run(argv: list[str]) -> int:
    options = build_parser().parse_args(argv)
    name, on_hub = options.checkpoint, options.checkpoint.startswith("hf:")
    given = Path(f"{name.rpartition('/')[2]}.pt" if on_hub else name)
    if not on_hub and not given.is_file():
        raise UserError(f"There is no checkpoint {given}.")
    path = options.output or given.with_suffix(SUFFIXES[options.to])
    if path.resolve() == given.resolve():
        raise UserError(f"--output {path} is the checkpoint itself. Choose another file.")
    if path.is_dir() or (path.exists() and not options.force):
        raise UserError(f"{path} exists. Choose another --output, or replace it with --force.")
    from ..deploy.export import export
    from ..deploy.network import load
    from ..engine import checkpoint
    from ..hub import local

    if options.to == "checkpoint":
        state = checkpoint.slim(checkpoint.load(local(options.checkpoint)))
        checkpoint.save(path, state)
        print(f"Written: {path}")
        return 0
    print(*export(load(options.checkpoint), options.to, path), sep="\n")
    return 0
