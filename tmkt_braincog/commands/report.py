"""``tmkt report``: one page about everything in output folders."""

import argparse
from pathlib import Path

from ..arguments import Parser

DESCRIPTION = """\
Write report.html, one page that holds all its pictures, and report.md, with its pictures beside it: results over seeds,
curves, figures and tables found in the folders, settings, split audit, environment, and the commands that make everything
again. What is missing or unfinished is said."""
EPILOG = """\
examples:
  tmkt report results/quickstart
      Writes results/quickstart/report/report.html.
  tmkt report results/tables/ndigits --output pages/ndigits
      Tables, figures and the runs behind them.
  tmkt report results/table1 results/nmnist_fewshot --output results/report
      One page with a section for each folder."""


def run(argv: list[str]) -> int:
    options = build_parser().parse_args(argv)
    from ..report.write import write

    print(write(options))
    return 0


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="tmkt report",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="output folder of tmkt train, of a sweep or of a table, or one with only tables and pictures",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where it goes (default: report/ in the first folder)",
    )
    return parser
