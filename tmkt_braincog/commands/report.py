"""``tmkt report``: one page about everything in output folders, or a checkpoint's model card."""

from pathlib import Path

from ..arguments import Parser

DESCRIPTION = """\
Write report.html, one page that holds all its pictures: results over seeds, curves, figures and
tables found in the folders, settings, split audit, environment, and the commands that make
everything again. What is missing or unfinished is said. Of a checkpoint: its model card."""
EPILOG = """\
examples:
  tmkt report results/quickstart
      Writes results/quickstart/report/report.html.
  tmkt report results/tables/ndigits --output pages/ndigits
      Tables, figures and the runs behind them.
  tmkt report results/table1 results/nmnist_fewshot --output results/report
      One page with a section for each folder.
  tmkt report results/compare/runs/tmkt-seed42/best.pt
      The model card of a checkpoint, best.md beside it."""
FOLDERS = "output folder of tmkt train, of a sweep or of a table, or one with tables and pictures"


def run(argv: list[str]) -> int:
    parser = Parser("tmkt report", description=DESCRIPTION, epilog=EPILOG)
    add = parser.add_argument
    add("folders", nargs="+", type=Path, metavar="FOLDER", help=FOLDERS)
    where = "where it goes (default: report/ in the first folder; the card beside the checkpoint)"
    add("--output", type=Path, metavar="DIR", help=where)
    options = parser.parse_args(argv)
    if str(first := options.folders[0]).startswith("hf:") or first.suffix == ".pt":
        from ..deploy.card import write_card

        if len(options.folders) > 1:
            parser.error("a checkpoint has a card of its own: name it alone")
        print(write_card(str(first), options.output))
        return 0
    from ..report import write

    print(write(options))
    return 0
