"""The command line program."""

import logging
import sys

from .arguments import build_parser
from .errors import UserError
from .options import parse, resolve


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status: 0, 2 for bad input, 128 + N after signal N."""
    argv = sys.argv[1:] if argv is None else argv
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("tmkt_braincog").setLevel(logging.INFO)
    if "-h" in argv or "--help" in argv:
        build_parser().print_help()
        return 0
    try:
        return _run(argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: a file could not be read or written: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130


def _run(argv: list[str]) -> int:
    given = parse(argv)
    from .engine.compare import compare, evaluate_checkpoint  # imports torch: after the cheap checks
    from .engine.interrupt import Interrupted

    options, remarks = resolve(given)
    for remark in remarks:
        print(remark)
    try:
        if options.eval:
            evaluate_checkpoint(options)
        else:
            compare(options)
    except Interrupted as stop:
        print(f"\n{stop}", file=sys.stderr)
        return stop.exit_code
    return 0
