"""``tmkt train``, the same as ``main_transfer.py``; its options are in :mod:`~tmkt_braincog.arguments`."""

from ..arguments import build_parser
from ..options import parse, resolve, typed


def run(argv: list[str]) -> int:
    if "-h" in argv or "--help" in argv:
        build_parser().print_help()
        return 0
    given = parse(argv)
    options, remarks = resolve(given)
    from .. import distributed
    from ..engine.compare import compare
    from ..engine.stored import evaluate_stored
    from ..methods.names import refuse_idle

    if not options.eval:
        refuse_idle(options, typed(argv))
    with distributed.processes():
        say = print if distributed.is_main() else lambda line: None
        for remark in remarks:
            say(remark)
        if options.eval:
            evaluate_stored(given, say)
        else:
            compare(options, say)
    return 0
