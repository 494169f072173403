"""What the words on the command line mean: recipes, the published baseline's switches.

Order of precedence: command line, then ``-c RECIPE``, then the recipe of the target data set,
then the defaults shown by ``--help``.
"""

import argparse
from argparse import SUPPRESS, ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Container, Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from .arguments import build_parser, names_by_word
from .errors import UserError, unknown_name
from .files import replacing
from .registry import DATASETS

# Settings of data sets and experiments, one YAML file each.
RECIPES = files(__package__) / "recipes"
# Switches of the published baseline: without --method they select it.
BASELINE_SWITCHES = ("domain_loss", "regularization", "sliding_training", "pow")
# In such a line a switch that is absent is off.
BASELINE_FLAGS = ("TET_loss", "domain_loss", "regularization")
NAMED = ("method", "target_dataset")  # in every command line that is printed
# Of some data sets alone: what they do, for the message of the others.
OF_SOME_DATA = {"window": "cuts recordings", "time_unit": "is for files that do not say it"}
# What does not change a result; two runs that differ only here are the same run.
NOT_IDENTITY = (
    *("config", "output", "resume", "eval", "eval_checkpoint", "device", "tensorboard"),
    *("data_root", "download", "num_classes", "log_interval"),
)


def parse(argv: list[str] | None = None) -> Namespace:
    """Options as given, YAML defaults included, unresolved: only what the user set is present."""
    given = _sparse_parser().parse_args(argv)
    if "config" not in given:
        return given
    from_file = vars(_recipe(given.config))
    if "method" in given or not any(s in given for s in BASELINE_SWITCHES):
        from_file = {"method": ["tmkt"], **from_file}  # the words select no baseline
    return Namespace(**{**from_file, **vars(given)})


def without(words: Sequence[str], names: Container[str]) -> list[str]:
    """The words of a command line without those of the options of these names."""
    known, kept, name = names_by_word(), [], None
    for word in words:
        name = known.get(word.split("=")[0], name)
        if name not in names:
            kept.append(word)
    return kept


def _sparse_parser() -> ArgumentParser:
    """The parser without defaults: what was not given is not there."""
    parser = build_parser()
    for action in parser._actions:
        action.default = SUPPRESS
    return parser


def _recipe(recipe: str | Mapping[str, Any]) -> Namespace:
    """The options of a recipe, by name, as a file or as a mapping, checked like a command line."""
    mapping = load_recipe(recipe) if isinstance(recipe, str) else recipe
    where = recipe if isinstance(recipe, str) else "recipe"
    return _sparse_parser().parse_args(words_for(mapping, where))


def words_for(mapping: Mapping[str, Any], where: str) -> list[str]:
    """The words for options by their names; a UserError, which says where, for unknown ones."""
    parser, words = _sparse_parser(), list[str]()
    actions = _by_option(parser)
    for key, value in mapping.items():
        name = str(key).replace("-", "_")
        if name not in actions or actions[name].dest in ("help", "config"):
            parser.error(f"unrecognized arguments: --{key} in {where}")
        words += _words(actions[name], value, f"{where}: {key}")
    return words


def _by_option(parser: ArgumentParser) -> dict[str, argparse.Action]:
    """Actions by the names that recipes have for them; several may set one option."""
    return {o.lstrip("-").replace("-", "_"): a for a in parser._actions for o in a.option_strings}


def load_recipe(name: str) -> dict[str, Any]:
    """The options in a YAML file, or in the package's recipe of that name; a UserError if none."""
    path: Traversable = Path(name)
    if not name.endswith((".yaml", ".yml")):
        path = RECIPES / f"{name}.yaml"
        if not path.is_file():
            known = (file.name.removesuffix(".yaml") for file in RECIPES.iterdir())
            problem = unknown_name("recipe", name, known)
            raise UserError(f"-c: {problem} A file of your own ends in .yaml.")
    try:
        mapping = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"Cannot read the config file {path}: {error}") from error
    if not isinstance(mapping, dict):
        seen = type(mapping).__name__
        raise UserError(f"{path}: expected lines of 'option: value', seen {seen}.")
    return mapping


def _words(action: argparse.Action, value: Any, where: str) -> list[str]:
    """An option of a file as words of the command line."""
    names = [o for o in reversed(action.option_strings) if o.startswith("--")]
    long = next((o for o in names if not o.startswith("--no-")), names[0])
    if value is None:
        return []
    if action.nargs == "?" and isinstance(value, bool):
        return [long] if value else []
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise UserError(f"{where}: expected true or false, seen {value!r}.")
        off = [f"--no-{long[2:]}"] if isinstance(action, BooleanOptionalAction) else []
        return [long] if value else off
    values = value if isinstance(value, list) else [value]
    return [long, *map(str, values)] if len(values) != 1 else [f"{long}={values[0]}"]


def resolve(given: Namespace) -> tuple[Namespace, list[str]]:
    """All options with their values, and remarks; a UserError for unknown or contradicting ones."""
    options = build_parser().parse_args([])
    target_name = DATASETS.canonical(getattr(given, "target_dataset", options.target_dataset))
    from .data.encodings import build_encoding  # imports torch: after the cheap check
    from .methods.names import canonical, teachers_of

    target = DATASETS[target_name]
    vars(options).update(vars(_recipe(target.recipe)) | vars(given))
    methods, remarks = _methods(given, options)
    options.method = [canonical(name) for name in methods]
    _try_methods(options)
    build_encoding(options)
    if not teachers_of(options.method):
        options.teacher_checkpoint = None  # it changes nothing
    options.target_dataset = target_name
    if options.source_dataset not in (None, *target.sources):
        raise UserError(
            f"--source-dataset {options.source_dataset!r} does not go with --target-dataset "
            f"{target_name!r}: expected {' or '.join(target.sources)}."
        )
    options.source_dataset = target.sources[0]
    for name, does in OF_SOME_DATA.items():
        if getattr(options, name) is not None and name not in target.takes:
            raise UserError(
                f"--{name.replace('_', '-')} {does}, and {target_name} has no use for it: it is an "
                "option of --target-dataset folder. Leave it away."
            )
    for name in ("method", "seed"):
        refuse_twice(name, getattr(options, name))
    return options, remarks


def refuse_twice(name: str, values: Sequence[Any]) -> None:
    """A UserError where a list of values of an option holds one twice."""
    if len(set(values)) < len(values):
        raise UserError(f"--{name} names the same value twice: {values}.")


def _try_methods(options: Namespace) -> None:
    """Build each method: an unknown name, an impossible ratio or too small a batch is an error."""
    from .methods.names import build_method

    for name in options.method:
        method = build_method(name, options, features=1)
        if options.shots == 0 and method.needs_events:
            raise UserError(
                f"--shots 0 leaves no recording to train on, and {name} needs some. Give --method "
                "finetune, which then sees images alone, or --shots 1 or more."
            )
        least = method.least_batch
        if options.batch_size < least:
            raise UserError(
                f"--batch-size {options.batch_size}: {name} compares the samples of a batch (CKA) "
                f"and needs at least {least}. Raise it, or switch the alignment off (--no-rda for "
                "tmkt, --no-domain-loss for the baseline)."
            )


def _methods(given: Namespace, options: Namespace) -> tuple[list[str], list[str]]:
    """The methods' names, and a remark where they follow from other words."""
    if "method" in given or not any(s in given for s in BASELINE_SWITCHES):
        return list(getattr(given, "method", ["tmkt"])), []
    for flag in BASELINE_FLAGS:
        if flag not in given:
            setattr(options, flag, False)
    flags = [f"{f.replace('_', '-')} {'on' if vars(options)[f] else 'off'}" for f in BASELINE_FLAGS]
    remark = "No --method, but switches of the published baseline: running --method baseline, with"
    return ["baseline"], [f"{remark} {', '.join(flags)}."]


def words_of(options: Namespace) -> list[str]:
    """The fewest words of ``tmkt train`` that resolve to these options, which are resolved."""
    mapping = {k: v for k, v in identity(options).items() if v is not None}
    parser = build_parser()
    usual, plain = _by_option(parser), vars(parser.parse_args([]))
    target = DATASETS[options.target_dataset]
    # The recipe of the data set gives the rest.
    plain |= vars(_recipe(target.recipe)) | {"source_dataset": target.sources[0]}
    given = [n for n in mapping if n in usual and (n in NAMED or mapping[n] != plain[n])]
    words = [word for n in given for word in _words(usual[n], mapping[n], n)]
    return words + (["--data-root", "DATA"] if target.get != "built in" else [])


def identity(options: Namespace) -> dict[str, Any]:
    """The options that decide a result, for comparing runs."""
    return {k: v for k, v in sorted(vars(options).items()) if k not in NOT_IDENTITY}


def model_text(options: Namespace) -> str:
    """The model in words, for titles and captions."""
    widths = "" if options.width_divisor == 1 else f" (widths / {options.width_divisor})"
    return f"{options.model}{widths}"


def save_yaml(options: Namespace, path: Path) -> None:
    """Write the resolved options, whole or not at all, so that ``-c`` reads them back."""
    skip = {"config", "resume", "eval", "eval_checkpoint"}
    mapping = {k: v for k, v in vars(options).items() if k not in skip and v is not None}
    with replacing(path) as temporary:
        temporary.write_text(yaml.safe_dump(mapping))
