"""``tmkt push``: a checkpoint and its model card to the Hugging Face Hub."""

from io import BytesIO

from ..arguments import Parser

DESCRIPTION = """\
Put a checkpoint and its model card into a repository of the Hugging Face Hub, which is made where
there is none. Wherever a checkpoint is named, hf:user/name then fetches it. Log in first with
`hf auth login`, or set HF_TOKEN."""
EPILOG = """\
examples:
  tmkt push results/compare/runs/tmkt-seed42/best.pt hf:user/tmkt-digits
  tmkt push best.pt hf:user/tmkt-digits --private
  tmkt push best.pt hf:user/tmkt-digits@next
      On a branch that exists; hf:user/tmkt-digits@next fetches it."""


def build_parser() -> Parser:
    parser = Parser("tmkt push", description=DESCRIPTION, epilog=EPILOG)
    what = "best.pt of a run, or hf:user/name"
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=what)
    parser.add_argument("name", metavar="hf:USER/NAME", help="the repository")
    parser.add_argument("--private", action="store_true", help="make it a private one")
    return parser


def run(argv: list[str]) -> int:
    options = build_parser().parse_args(argv)
    import torch

    from ..deploy.card import card
    from ..deploy.network import Network
    from ..engine import checkpoint
    from ..hub import local, parsed, push

    parsed(options.name)
    state, content = checkpoint.load(local(options.checkpoint)), BytesIO()
    text = card(Network(state, options.checkpoint, torch.device("cpu")), options.name)
    torch.save(checkpoint.slim(state), content)
    print(f"Pushed: {push(content.getvalue(), options.name, text, options.private)}")
    return 0
