"""The commands of the program as functions: words after the command -> exit status."""

from collections.abc import Callable, Sequence

from tmkt_braincog.cli import main


def command(*first: str) -> Callable[[Sequence[str]], int]:
    return lambda words: main([*first, *words])


run_train, run_data, run_teacher = command("train"), command("data"), command("teacher")
run_table, run_sweep, run_fewshot = command("table"), command("table", "sweep"), command("table", "fewshot")
run_figure, run_report = command("figure"), command("report")
