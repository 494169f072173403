"""What a name of a method stands for: ``tmkt``, ``tmkt+seal``, or a system such as ``ckd``."""

from argparse import Namespace
from collections.abc import Iterable
from functools import cache

from ..arguments import GENERAL_GROUPS, build_parser, group_options, names_by_word
from ..data.encodings import ENCODINGS
from ..errors import UserError, unknown_name
from .base import METHODS, PARTS, Method

# Published systems: the method that the part of the same name is joined to.
SYSTEMS = {"ckd": "baseline", "vl2spike": "baseline"}
SYSTEMS |= {"seal": "event-only", "etc": "event-only", "tks": "event-only"}


def split_name(name: str) -> tuple[str, list[str]]:
    """The method and the parts of ``METHOD+PART+...``, in the order of their registration.

    Raises:
        UserError: an unknown method or part, or a part that is there twice.
    """
    first, *parts = name.split("+")
    if first not in METHODS and first not in SYSTEMS:
        raise unknown_name(METHODS.kind, first, [*METHODS, *SYSTEMS])
    base, holds = first, ""
    if first in SYSTEMS:
        base, parts = SYSTEMS[first], [first, *parts]
        holds = f" {first} is {base}+{first}."
    for part in parts:
        if part not in PARTS:
            hint = " A method stands first, and only one." if part in METHODS else ""
            raise UserError(f"--method {name}: {unknown_name(PARTS.kind, part, PARTS)}{hint}")
        if parts.count(part) > 1:
            raise UserError(f"--method {name} holds the part {part} twice.{holds} Name it once.")
    return base, sorted(parts, key=list(PARTS).index)


def canonical(name: str) -> str:
    """The one name of a method with these parts, whichever order they were given in."""
    first, *_ = name.split("+")
    return "+".join([first, *(part for part in split_name(name)[1] if part != first)])


def method_class(name: str) -> type[Method]:
    """The method of this name without its parts."""
    return METHODS[split_name(name)[0]]


def build_method(name: str, options: Namespace, features: int) -> Method:
    """The method of this name with its parts; ``features`` is the width F of the model's F_t.

    Raises:
        UserError: an unknown name, or options that a part is not defined for.
    """
    base, parts = split_name(name)
    if _on_mean(name):
        options = Namespace(**vars(options) | {"TET_loss": False})
    method = METHODS[base].from_options(options, features)
    for part in parts:
        if PARTS[part].compares_steps and options.step < 2:
            raise UserError(
                f"--step 1 with {part}: it compares the time-steps of a recording. Take at least "
                f"2, or leave {part} away."
            )
        if PARTS[part].needs_static and not method.has_static:
            raise UserError(
                f"--method {name}: {part} works on the static stream, which {base} does not have. "
                "Join it to another."
            )
        method.parts.append(PARTS[part].from_options(options, features))
    return method


def takes(options: Namespace, dest: str) -> bool:
    """Whether the first of the run's methods depends on this option.

    All do on what no registered method or part reads (such as ``--epochs``) and on the options of
    the :data:`~tmkt_braincog.arguments.GENERAL_GROUPS`; on the others where they read them."""
    return dest not in _of_methods() or dest in _taken(options.method[0], options)


def refuse_idle(options: Namespace, words: Iterable[str]) -> None:
    """A UserError for a word of the command line that sets what none of the run's methods reads."""
    known, unread = names_by_word(), idle(options)
    for word in (word.split("=")[0] for word in words):
        if (dest := known.get(word)) not in unread:
            continue
        readers = [name for name in (*METHODS, *SYSTEMS) if dest in _taken(name, options)]
        those = f"It is an option of {', '.join(readers)}: name one with --method, or"
        if of := [name for name in ENCODINGS if dest in ENCODINGS[name].options.values()]:
            readers, those = of, f"It is an option of --source-encoding {of[0]}: give that, or"
        raise UserError(
            f"{word} changes nothing for {', '.join(options.method)}. "
            f"{those if readers else 'Please'} leave it away."
        )


def idle(options: Namespace) -> set[str]:
    """The options that some method reads, but none of the run's."""
    return _of_methods().difference(*(_taken(name, options) for name in options.method))


def _taken(name: str, options: Namespace) -> set[str]:
    base, parts = split_name(name)
    teacher = {"teacher_checkpoint"} if teachers_of([name]) else set()
    taken = METHODS[base].taken(options).union(teacher, *(PARTS[part].takes for part in parts))
    return taken - ({"TET_loss"} if _on_mean(name) else set())


def _on_mean(name: str) -> bool:
    first = name.split("+")[0]
    return first in SYSTEMS and PARTS[first].on_mean


@cache
def _of_methods() -> set[str]:
    defaults = build_parser().parse_args([])
    some = set().union(*(_taken(name, defaults) for name in (*METHODS, *SYSTEMS)))
    of_encodings = set().union(*(ENCODINGS[name].options.values() for name in ENCODINGS))
    return (some | of_encodings) - group_options(GENERAL_GROUPS)


def teachers_of(names: Iterable[str]) -> set[str]:
    """What the teachers of these methods were trained on: ``static``, ``events``, ``vlm``."""
    parts = {part for name in names for part in split_name(name)[1]}
    return {on for part in parts if (on := PARTS[part].teacher_on)}
