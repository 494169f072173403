"""The program answers before anything heavy is imported, its help teaches, names are in place."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import tmkt_braincog
from tmkt_braincog.cli import COMMANDS, SPIN_COUNT, main
from tmkt_braincog.commands import figure, table
from tmkt_braincog.commands.data import parse_words
from tmkt_braincog.commands.teacher import teacher_parser
from tmkt_braincog.options import parse
from tmkt_braincog.version import VERSION

REPOSITORY = Path(__file__).resolve().parent.parent
HEAVY = "torch torchvision timm braincog sklearn matplotlib pandas scipy numpy"
# Lines that start no work, by exit status.
QUICK = {
    0: "--help, --version, train --help, data --help, data prepare --help, data inspect --help, "
    "teacher --help, teacher train --help, table --help, table table1 --help, table sweep --help, "
    "table fewshot --help, figure --help, figure all --help, figure energy --help, report --help, "
    "figure gradient-variance --help, predict --help, push --help, export --help",
    2: ", trian, train --mixup-ration 0.4, train --target-dataset nmnst, train -c ncaltek, "
    "train --seed x, data, data prepare nmnst, data lst, teacher trian, "
    "teacher train --target-dataset nmnst, table tabel1, table table1, table table1 --data nmnst, "
    "table sweep --vary seed=1, table fewshot, figure, figure gradcm results/a, figure energy, "
    "report, report --outptu x y, predict, predict best.pt, push best.pt, export, "
    "export x.pt --to trch, export nowhere.pt --to onnx",
}
LINES = [(status, line) for status, lines in QUICK.items() for line in lines.split(", ")]
HELPS = (
    "train, data, data list, data prepare, data inspect, teacher, teacher train, table, "
    "table table1, table sweep, table fewshot, figure, figure all, figure gradcam, figure energy, "
    "figure gradient-variance, report, predict, push, export"
)
PROBE = """
import contextlib, io, json, sys
import tmkt_braincog
from tmkt_braincog.cli import main
seen = {}
for line in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(line.split())
    seen[line] = status, err.getvalue(), [m for m in sys.argv[2].split() if m in sys.modules]
assert set(tmkt_braincog.__all__) <= set(dir(tmkt_braincog))
from tmkt_braincog import solve_p
assert "torch" in sys.modules and "braincog.model_zoo.resnet" not in sys.modules
print(json.dumps(seen))
"""


def python(*words: str) -> subprocess.CompletedProcess:
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    how = {"env": env, "cwd": REPOSITORY, "capture_output": True, "text": True}
    return subprocess.run([sys.executable, *words], **how)


@pytest.fixture(scope="module")
def quick():
    """Status, errors and heavy modules imported so far, per line, all in one new process.

    There a public name, which imports torch, comes last.
    """
    done = python("-c", PROBE, json.dumps([line for _, line in LINES]), HEAVY)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("status, line", LINES)
def test_a_line_that_starts_no_work_imports_nothing_heavy(quick, status, line):
    found, err, heavy = quick[line]
    assert found == status and heavy == []
    silent = status == 0 or line in ("", "figure")
    assert err == "" if silent else err.startswith("error: ")


def test_public_names_are_those_of_their_modules():
    assert len(tmkt_braincog.__all__) == 26
    assert all(getattr(tmkt_braincog, name) is not None for name in tmkt_braincog.__all__)
    assert tmkt_braincog.TMKT is tmkt_braincog.METHODS["tmkt"]
    with pytest.raises(AttributeError, match="NoSuchName"):
        tmkt_braincog.NoSuchName  # noqa: B018


@pytest.mark.parametrize("words", HELPS.split(", "))
def test_help_names_itself_and_shows_three_examples(words, capsys):
    assert main([*words.split(), "--help"]) == 0
    out = capsys.readouterr().out
    command = words.split()[0]
    # In the help of a group the usage holds the placeholder of its commands.
    assert re.match(rf"usage: tmkt {words} ", out), out
    line = rf"^  (?:tmkt|torchrun .* -m tmkt_braincog) {command} (?:[^\n\\]|\\\n)*"
    examples = re.findall(line, out, re.M)
    assert len(examples) >= 3
    for example in examples:
        accepted(re.sub(r"\s*\\\n\s*", " ", example).replace("...", ""))


def accepted(example: str) -> None:
    """Raise where the program would not take these words."""
    command, *words = shlex.split(re.sub(r"^.*?tmkt(_braincog)? ", "", example.strip()))
    if command == "train" and "config.yaml" not in example:
        parse(words)
    elif command == "data":
        parse_words(words)
    elif command == "teacher":
        parse(teacher_parser().parse_known_args(words[1:])[1])
    elif command == "table" and words[0] == "sweep":
        parse(table.sweep_parser().parse_known_args(words[1:])[1])
    elif command == "table":
        known = table.load_table("table1" if words[0].endswith(".yaml") else words[0])
        own, rest = table.table_parser(known).parse_known_args(words[1:])
        assert known.recipe or own.data in table.RECIPES
        parse(rest)
    elif command == "figure":
        figure.figures_parser(words[0]).parse_args(words[1:])


def test_the_version_and_the_commands(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tmkt_braincog {VERSION}\n"
    assert main([]) == 2
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize(
    "words, program",
    [("main_transfer.py", "python main_transfer.py"), ("-m tmkt_braincog train", "tmkt train")],
)
def test_both_ways_to_train_name_themselves(words, program):
    out = python(*words.split(), "--help").stdout
    assert out.startswith(f"usage: {program} [options]")
    groups = ("TMKT: mixing", "baseline (He et al.)", "optimisation (timm)", "(default: 0.4)")
    assert all(text in out for text in (f"\n  {program} --mixup-ratio 0.4\n", *groups))


@pytest.mark.parametrize(
    "given, found",
    [({}, SPIN_COUNT), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None"), ({"GOMP_SPINCOUNT": "7"}, "7")],
)
def test_waiting_threads_soon_sleep_unless_the_user_says_otherwise(monkeypatch, given, found):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    code = "import os, sys, tmkt_braincog.cli\n"
    code += "print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    assert python("-c", code).stdout.split() == [found, "False"]


def test_a_reader_that_has_seen_enough_is_no_error():
    line = f"{sys.executable} -m tmkt_braincog train --help | head -n 1; echo ${{PIPESTATUS[0]}}"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    how = {"cwd": REPOSITORY, "env": env, "capture_output": True, "text": True}
    done = subprocess.run(["bash", "-c", line], **how)
    usage, status = done.stdout.splitlines()
    assert usage == "usage: tmkt train [options]" and done.stderr == "" and status in ("0", "141")
