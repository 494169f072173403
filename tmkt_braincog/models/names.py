"""Keywords of a ``create_model`` call: neurons and surrogates by name, and what is refused."""

import inspect

from braincog.base.node import node as nodes
from braincog.base.strategy import surrogate

from ..errors import UserError, unknown_name


def _classes(module: object, base: type) -> dict[str, type]:
    """The subclasses of ``base`` by name: a user's string is never evaluated."""
    found = {n: c for n, c in vars(module).items() if inspect.isclass(c) and issubclass(c, base)}
    return {name: kind for name, kind in found.items() if kind is not base}


NODES = _classes(nodes, nodes.BaseNode)
SURROGATES = _classes(surrogate, surrogate.SurrogateFunctionBase)
# What timm's and BrainCog's calls carry that has no meaning here.
_IGNORED = (
    *("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"),
    *("dataset", "spike_output", "adaptive_node"),
)
# What would change the method without a word (BatchNorm over all steps at once, time as channels).
_REFUSED = {
    "layer_by_layer": False,
    "temporal_flatten": False,
    "n_groups": 1,
    "encode_type": "direct",
}


def node_class(node: str | type) -> type:
    """BrainCog node class from its name (``LIFNode``, ``PLIFNode``, ...) or the class itself."""
    return _of_name("--node-type", node, NODES)


def surrogate_class(act_fun: str | type) -> type:
    """BrainCog surrogate gradient class from its name (``QGateGrad``, ...) or the class itself."""
    return _of_name("--act-fun", act_fun, SURROGATES)


def _of_name(option: str, given: str | type, known: dict[str, type]) -> type:
    if not isinstance(given, str):
        return given
    if given not in known:
        raise unknown_name(option, given, known)
    return known[given]


def refuse_unknown(node_options: dict, node: type, model: type) -> None:
    """A UserError for a keyword that neither model nor neurons have: BrainCog would swallow it."""
    own = set(inspect.signature(model).parameters) - {"node_options"}
    known = own | {"mem_detach", "requires_mem"}  # read out of ``**kwargs`` by BaseNode
    for kind in node.__mro__:
        if issubclass(kind, nodes.BaseNode):
            known |= set(inspect.signature(kind).parameters) - {"args", "kwargs"}
    for name in node_options:
        if name not in known:
            raise unknown_name("option of a transfer model", name, known)


def timm_options(pretrained: bool, kwargs: dict) -> dict:
    """Keyword arguments of a ``create_model`` call, as the models here take them.

    Raises:
        UserError: pretrained weights asked for (there are none), or an option of BrainCog that
            would change the method, such as ``layer_by_layer=True``.
    """
    if pretrained:
        raise UserError(
            "pretrained=True: no pretrained weights exist for the transfer models; use --resume."
        )
    for name, only in _REFUSED.items():
        if kwargs.get(name, only) != only:
            raise UserError(
                f"{name}={kwargs[name]!r} is not supported by the transfer models, only {only!r}."
            )
    return {k: v for k, v in kwargs.items() if k not in _IGNORED and k not in _REFUSED}
