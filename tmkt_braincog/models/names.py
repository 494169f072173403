"""Keywords of a ``create_model`` call: neurons and surrogates by name, and what is refused."""

import inspect

from braincog.base.node import node as nodes
from braincog.base.strategy import surrogate

from ..errors import UserError, unknown_name

# What timm's and BrainCog's calls carry that has no meaning here.
_IGNORED = "pretrained_cfg pretrained_cfg_overlay cache_dir dataset spike_output adaptive_node"
# What would change the method without a word (BatchNorm over all steps at once, time as channels).
_REFUSED = dict(layer_by_layer=False, temporal_flatten=False, n_groups=1, encode_type="direct")


def node_class(node: str | type) -> type:
    """BrainCog node class from its name (``LIFNode``, ``PLIFNode``, ...) or the class itself."""
    return _of_name("--node-type", node, nodes, nodes.BaseNode)


def surrogate_class(act_fun: str | type) -> type:
    """BrainCog surrogate gradient class from its name (``QGateGrad``, ...) or the class itself."""
    return _of_name("--act-fun", act_fun, surrogate, surrogate.SurrogateFunctionBase)


def _of_name(option: str, given: str | type, module: object, base: type) -> type:
    """The subclass of ``base`` of this name: a user's string is never evaluated."""
    if not isinstance(given, str):
        return given
    classes = {n: c for n, c in vars(module).items() if inspect.isclass(c) and issubclass(c, base)}
    if given not in classes or classes[given] is base:
        raise unknown_name(option, given, classes)
    return classes[given]


def refuse_unknown(node_options: dict, node: type, model: type) -> None:
    """A UserError for a keyword that neither model nor neurons have: BrainCog would swallow it."""
    known = {"mem_detach", "requires_mem"}  # read out of ``**kwargs`` by BaseNode
    for kind in (model, *(k for k in node.__mro__ if issubclass(k, nodes.BaseNode))):
        known |= set(inspect.signature(kind).parameters) - {"args", "kwargs", "node_options"}
    for name in node_options:
        if name not in known:
            raise unknown_name("option of a transfer model", name, known)


def timm_options(pretrained: bool, kwargs: dict) -> dict:
    """Keyword arguments of a ``create_model`` call, as the models here take them.

    A UserError for ``pretrained`` (there are no weights), or for an option of BrainCog that would
    change the method, such as ``layer_by_layer=True``."""
    for name, only in {"pretrained": False, **_REFUSED}.items():
        if (given := {"pretrained": pretrained, **kwargs}.get(name, only)) != only:
            raise UserError(f"{name}={given!r}: the transfer models know only {only!r}.")
    return {k: v for k, v in kwargs.items() if k not in {*_IGNORED.split(), *_REFUSED}}
