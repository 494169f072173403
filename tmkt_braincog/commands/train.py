"""``tmkt train``, the same as ``main_transfer.py``; see :mod:`~tmkt_braincog.arguments`."""

from ..arguments import build_parser
from ..options import parse, resolve


def run(argv: list[str]) -> int:
    if "-h" in argv or "--help" in argv:
        build_parser().print_help()
        return 0
    given = parse(argv)
    stored = getattr(given, "eval", False)
    options, remarks = (given, []) if stored else resolve(given)
    from .. import distributed
    from ..engine.compare import compare
    from ..engine.stored import evaluate_stored
    from ..methods.names import refuse_idle

    if not stored:
        refuse_idle(options, argv)
    with distributed.processes():
        for remark in remarks:
            distributed.say(remark)
        (evaluate_stored if stored else compare)(options)
    return 0
