"""Neuron and surrogate classes of BrainCog by name, without evaluating a user's string."""

import inspect

from braincog.base.node import node as nodes
from braincog.base.strategy import surrogate

from ..errors import unknown_name

NODES = {
    name: cls
    for name, cls in vars(nodes).items()
    if inspect.isclass(cls) and issubclass(cls, nodes.BaseNode) and cls is not nodes.BaseNode
}
SURROGATES = {
    name: cls
    for name, cls in vars(surrogate).items()
    if inspect.isclass(cls)
    and issubclass(cls, surrogate.SurrogateFunctionBase)
    and cls is not surrogate.SurrogateFunctionBase
}


def node_class(node: str | type) -> type:
    """BrainCog node class from its name (``LIFNode``, ``PLIFNode``, ...) or the class itself."""
    if isinstance(node, str) and node not in NODES:
        raise unknown_name("--node-type", node, NODES)
    return NODES[node] if isinstance(node, str) else node


def surrogate_class(act_fun: str | type) -> type:
    """BrainCog surrogate gradient class from its name (``QGateGrad``, ...) or the class itself."""
    if isinstance(act_fun, str) and act_fun not in SURROGATES:
        raise unknown_name("--act-fun", act_fun, SURROGATES)
    return SURROGATES[act_fun] if isinstance(act_fun, str) else act_fun
