"""``tmkt train``, the same as ``main_transfer.py``; its options are in :mod:`~tmkt_braincog.arguments`."""

from ..arguments import build_parser
from ..options import parse, resolve


def run(argv: list[str]) -> int:
    if "-h" in argv or "--help" in argv:
        build_parser().print_help()
        return 0
    options, remarks = resolve(parse(argv))
    from .. import distributed
    from ..engine.compare import compare, evaluate_checkpoint

    with distributed.processes():
        say = print if distributed.is_main() else lambda line: None
        for remark in remarks:
            say(remark)
        work = evaluate_checkpoint if options.eval else compare
        work(options, say)
    return 0
