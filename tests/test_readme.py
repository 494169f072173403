"""The README's lines, run as they stand."""

import re
from pathlib import Path

import pytest
import torch

from tmkt_braincog.cli import COMMANDS
from tmkt_braincog.registry import FIGURES

README = (Path(__file__).resolve().parent.parent / "README.md").read_text()


def test_the_loop_of_your_own():
    code = re.search(r"```python\n(.*?)```", README, re.S)[1]
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 10
    given = {
        "frames": torch.randint(0, 4, (40, 10, 2, 34, 34), generator=generator, dtype=torch.uint8),
        "labels": labels,
        "images": torch.randint(0, 256, (40, 28, 28), generator=generator, dtype=torch.uint8),
        "image_labels": labels,
    }
    exec(compile(code, "README.md", "exec"), given)
    model, method = given["model"], given["method"]
    parameters = (*model.named_parameters(), *method.named_parameters())
    trained = {n: p.grad for n, p in parameters if p.requires_grad}
    assert all(g is not None and torch.isfinite(g).all() for g in trained.values())
    assert {"fc2.weight", "mag.weight", "mrp.weight", "rda.theta"} <= set(trained)
    assert trained["fc2.weight"].abs().sum() > 0 and trained["mag.weight"].abs().sum() > 0


@pytest.mark.parametrize("path", re.findall(r"run_scripts/\w+\.sh", README))
def test_every_script_that_is_named_exists(path):
    assert (Path(__file__).resolve().parent.parent / path).is_file()


def test_every_option_that_is_named_exists():
    from tmkt_braincog.arguments import build_parser
    from tmkt_braincog.commands.table import sweep_parser, table_parser
    from tmkt_braincog.tables import load_table

    table = table_parser(load_table("table2"))
    actions = [*build_parser()._actions, *sweep_parser()._actions, *table._actions]
    known = {o for a in actions for o in a.option_strings}
    known |= {"--logdir", "--nproc_per_node", "--no-deps", "--help"}
    assert set(re.findall(r"(?<![\w-])--[a-zA-Z][\w-]+", README)) <= known


@pytest.mark.parametrize(
    "command, named", sorted(set(re.findall(r"\btmkt (\w+) ([\w,-]+)", README)))
)
def test_every_command_that_is_named_exists(command, named):
    from tmkt_braincog.tables import SWEEP, listed

    known = {
        "data": {"list", "prepare", "inspect"},
        "teacher": {"train"},
        "table": {*listed(), *SWEEP, "--help"},
        "figure": {"all", *FIGURES, "--help"},
    }
    assert named in known.get(command, {named}) and command in COMMANDS
