"""Options of ``tmkt train`` that vary: their values, and the words that give them."""

import argparse
from argparse import BooleanOptionalAction, Namespace
from collections.abc import Sequence
from dataclasses import dataclass

from ..arguments import build_parser
from ..errors import UserError
from ..options import NOT_IDENTITY, parse

# What a sweep takes differences to.
REFERENCE = ("method", "baseline")


@dataclass(frozen=True)
class Axis:
    """A varied option.

    Attributes:
        name: as on the command line, without dashes.
        dest: as in the resolved options.
        choices: for each value the words that give it.
    """

    name: str
    dest: str
    choices: tuple[tuple[str, ...], ...]

    def value(self, options: Namespace) -> str:
        """What the option is in these options, as text; true or false for a switch."""
        value = getattr(options, self.dest)
        (value,) = value if isinstance(value, list) else [value]
        return str(value).lower() if isinstance(value, bool) else str(value)


def check_fixed(words: Sequence[str]) -> Namespace:
    """The options that go to every run, as given; a UserError for those that make no sense in many runs."""
    given = parse(list(words))
    for name in ("eval", "eval_checkpoint", "resume"):
        if name in given:
            raise UserError(
                f"--{name} is for tmkt train; a sweep goes on by itself. Leave it away."
            )
    return given


def make_axis(text: str) -> Axis:
    """The axis of ``NAME=VALUE,VALUE,...``; a UserError where that is no option or no value of it."""
    name, _, values = text.partition("=")
    values = values.split(",")
    if "" in (name, *values):
        raise UserError(
            f"--vary {text}: expected NAME=VALUE,VALUE,..., such as mixup-ratio=0.3,0.4."
        )
    if len(set(values)) < len(values):
        raise UserError(f"--vary {text} names the same value twice.")
    parser = build_parser()
    action = _actions(parser).get(name.replace("_", "-"))
    if action is None:
        parser.error(f"unrecognized arguments: --{name}")
    if action.dest in (*NOT_IDENTITY, "help"):
        raise UserError(
            f"--vary {text}: --{name} changes no result. Give it as it is, for all jobs."
        )
    return Axis(
        name.replace("_", "-"), action.dest, tuple(_words(action, name, value) for value in values)
    )


def _actions(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Options by their long names, without dashes."""
    return {
        word[2:]: action
        for action in parser._actions
        for word in action.option_strings
        if word.startswith("--") and not word.startswith("--no-")
    }


def _words(action: argparse.Action, name: str, value: str) -> tuple[str, ...]:
    name = name.replace("_", "-")
    if action.nargs != 0:
        return (f"--{name}={value}",)
    if value not in ("true", "false"):
        raise UserError(f"--vary {name}: expected true, false or both, seen {value!r}.")
    if value == "true":
        return (f"--{name}",)
    return (f"--no-{name}",) if isinstance(action, BooleanOptionalAction) else ()
