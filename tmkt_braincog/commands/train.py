"""``tmkt train``, the same as ``main_transfer.py``; see :mod:`~tmkt_braincog.arguments`."""

from ..arguments import build_parser
from ..options import parse, resolve


def run(argv: list[str]) -> int:
    if "-h" in argv or "--help" in argv:
        build_parser().print_help()
        return 0
    given = parse(argv)
    if getattr(given, "eval", False):
        from .. import distributed
        from ..engine.stored import evaluate_stored

        with distributed.processes():
            evaluate_stored(given, distributed.say)
        return 0
    options, remarks = resolve(given)
    from .. import distributed
    from ..engine.compare import compare
    from ..methods.names import refuse_idle

    refuse_idle(options, argv)
    with distributed.processes():
        for remark in remarks:
            distributed.say(remark)
        compare(options, distributed.say)
    return 0
