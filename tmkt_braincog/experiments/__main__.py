"""``python -m tmkt_braincog.experiments COMMAND``: the paper's tables and figures, and experiments around them."""

import sys
from importlib import import_module

from ..errors import unknown_name
from ..terminal import guarded

# Command -> (module, what it does). Every module has ``main(argv) -> exit status``.
COMMANDS = {
    "table1": ("tables", "methods"),
    "table2": ("tables", "what TSM, MAG and MRP add"),
    "table3": ("tables", "mixup ratio"),
    "table4": ("tables", "mixing strategy"),
    "causes": ("tables", "what moves TMKT away from the baseline: one thing changed at a time"),
    "leakage": ("tables", "how much of the gain comes from static twins of test recordings"),
    "backbones": ("tables", "event-only, baseline and TMKT with four backbones"),
    "neighbours": ("tables", "CKD and SeAl-KD, alone and joined to TMKT"),
    "ckd": ("tables", "what the parts of CKD do"),
    "sweep": ("sweep", "any options varied"),
    "fewshot": ("fewshot", "accuracy against shots on N-MNIST"),
    "figures": ("figures", "Grad-CAM++, loss landscape, t-SNE, CKA and others from finished runs"),
    "gradient-variance": ("gradient_variance", "variance of the gradient for each mixing strategy"),
    "energy": ("energy", "spike rates, synaptic operations and energy of finished runs"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0 if argv else 2
    return guarded(lambda: _run(argv[0], argv[1:]))


def _run(command: str, argv: list[str]) -> int:
    if command not in COMMANDS:
        raise unknown_name("experiment", command, COMMANDS)
    name, _ = COMMANDS[command]
    module = import_module(f".{name}", __package__)
    return module.main([command, *argv] if name == "tables" else argv)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {what}" for name, (_, what) in COMMANDS.items()]
    usage = "usage: python -m tmkt_braincog.experiments COMMAND ...   (COMMAND --help for its options)"
    return "\n".join([usage, "", *lines])


if __name__ == "__main__":
    sys.exit(main())
