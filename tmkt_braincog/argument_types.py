"""What a word of the command line may be: numbers in a range, shares, lengths of time."""

import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from math import inf
from typing import Any

UNITS_US = {"us": 1, "ms": 1000, "s": 1_000_000}


def _number(name: str, kind: Any, fits: Callable[[Any], bool], what: str) -> Callable[[str], Any]:
    """A type of numbers for a parser; argparse calls it by its name where the text is no number."""

    def read(text: str) -> Any:
        value = kind(text)
        if not fits(value):
            raise ArgumentTypeError(f"expected {what}, seen {text}")
        return value

    read.__name__ = name
    return read


natural = _number("natural", int, lambda n: n >= 0, "an integer of at least 0")
positive_int = _number("positive_int", int, lambda n: n >= 1, "an integer of at least 1")
fraction = _number("fraction", float, lambda x: 0 <= x <= 1, "a number from 0 to 1")
positive = _number("positive", float, lambda x: 0 < x < inf, "a number above 0")
non_negative = _number("non_negative", float, lambda x: 0 <= x < inf, "a number of at least 0")
power = _number("power", float, lambda x: x >= 0, "a number of at least 0, or inf")


def epoch_or_share(text: str) -> float | str:
    """An epoch, or a share of them in percent, which stays text."""
    if not text.endswith("%"):
        return non_negative(text)
    if not 0 <= float(text[:-1]) <= 100:
        raise ArgumentTypeError(f"expected 0% to 100%, seen {text}")
    return text


def duration(text: str) -> str:
    """A length of time of at least 1 us, such as ``100ms``, in the largest unit for it."""
    us = microseconds(text)
    unit = next(unit for unit in ("s", "ms", "us") if us % UNITS_US[unit] == 0)
    return f"{us // UNITS_US[unit]}{unit}"


def microseconds(text: str) -> int:
    """The microseconds in ``100ms``; an ArgumentTypeError for what is no length of time."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(us|ms|s)", text.strip())
    us = round(float(found[1]) * UNITS_US[found[2]]) if found else 0
    if us < 1:
        raise ArgumentTypeError(
            f"expected a length with its unit, such as 100ms, 0.5s or 500us, seen {text}"
        )
    return us
