"""timm's registry: our and BrainCog's models have names of their own there, timm's build timm's."""

import functools
import warnings
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

import wrapt

OURS = ("VGG_SNN", "ResNet18", "SEWResNet18", "SCNN", "Spikformer")
MODELS = tuple(f"Transfer_{name}" for name in OURS)
# BrainCog's modules that register models, some under timm's names (``resnet18``, ...).
BRAINCOG = ("backeinet", "convnet", "glsnn", "resnet", "resnet19_snn", "sew_resnet", "vgg_snn")
PREFIX = "braincog_"


def watch() -> None:
    """Do both as soon as timm and each of BrainCog's modules are imported, or now if they are."""
    wrapt.register_post_import_hook(add_models, "timm.models")
    for name in BRAINCOG:
        wrapt.register_post_import_hook(rename_models, f"braincog.model_zoo.{name}")


def add_models(timm_models: ModuleType) -> None:
    """Register our models with timm; the network behind a name is imported when it is built."""
    for name in MODELS:
        timm_models.register_model(_entry(name))


def _entry(name: str) -> Callable:
    def create(pretrained: bool = False, **options):
        return getattr(import_module(".models", __package__), name)(pretrained, **options)

    create.__name__ = name
    return create


def rename_models(braincog_module: ModuleType) -> None:
    """Give BrainCog's models of this module names with a prefix, and timm's names back to timm.

    BrainCog's names that timm does not have stay as they are, too.
    """
    import timm.models

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a name is overwritten
        for name in timm.models.list_models():
            entry = timm.models.model_entrypoint(name)
            if entry.__module__ != braincog_module.__name__:
                continue
            timm.models.register_model(_renamed(entry))
            if callable(vars(timm.models).get(name)):
                timm.models.register_model(vars(timm.models)[name])


def _renamed(entry: Callable) -> Callable:
    @functools.wraps(entry, updated=())
    def create(pretrained: bool = False, **options):
        return entry(pretrained=pretrained, **options)

    create.__name__, create.__module__ = PREFIX + entry.__name__, __name__
    return create
