"""The command line program."""

import sys

from .arguments import build_parser
from .options import parse, resolve
from .terminal import guarded


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status: 0, 2 for bad input, 128 + N after signal N."""
    argv = sys.argv[1:] if argv is None else argv
    if "-h" in argv or "--help" in argv:
        build_parser().print_help()
        return 0
    return guarded(lambda: _run(argv))


def _run(argv: list[str]) -> int:
    given = parse(argv)
    from . import distributed
    from .engine.compare import compare, evaluate_checkpoint  # imports torch: after the cheap checks
    from .engine.interrupt import Interrupted

    options, remarks = resolve(given)
    with distributed.processes():
        say = print if distributed.is_main() else lambda line: None
        for remark in remarks:
            say(remark)
        try:
            if options.eval:
                evaluate_checkpoint(options, say)
            else:
                compare(options, say)
        except Interrupted as stop:
            if distributed.is_main():
                print(f"\n{stop}", file=sys.stderr)
            return stop.exit_code
    return 0
