"""The files that a program can be written to, each with what runs it again for the check."""

import copy
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from . import nir_graph
from .plain import Program


class Format(NamedTuple):
    """A kind of file.

    Attributes:
        name: as ``--to`` says it.
        needs: the modules that it takes, of the extra ``export``.
        write: program in float64, frames to try it with, file, texts that travel with it.
        run: file, frames ``[B, T, 2, H, W]`` in float32, or in float64 for a check without the
            rounding of sums -> logits ``[B, T, N]``.
        constant: what becomes of a neuron's constant in the file.
    """

    name: str
    needs: tuple[str, ...]
    write: Callable[[Program, Tensor, Path, Mapping[str, str]], None]
    run: Callable[[Path, Tensor], Tensor]
    constant: Callable[[float], float]

    def require(self) -> None:
        """A UserError for a package that is missing."""
        for name in self.needs:
            try:
                import_module(name)
            except ImportError as error:
                what = f"--to {self.name} needs {name}: pip install 'tmkt-braincog[export]'"
                raise UserError(what) from error


def _write_torch(program: Program, frames: Tensor, path: Path, texts: Mapping[str, str]) -> None:
    shapes = ({0: torch.export.Dim("batch")},)
    program = copy.deepcopy(program).float()
    exported = torch.export.export(program, (frames,), dynamic_shapes=shapes)
    with path.open("wb") as file:
        torch.export.save(exported, file, extra_files={f"{k}.json": v for k, v in texts.items()})


def _run_torch(path: Path, frames: Tensor) -> Tensor:
    with path.open("rb") as file:
        module: Any = torch.export.load(file).module()
    if frames.dtype == torch.float64:
        module.double()
        for node in module.graph.nodes:  # the dtype of spikes is written out
            named = {k: torch.float64 if v is torch.float32 else v for k, v in node.kwargs.items()}
            node.args = tuple(torch.float64 if a is torch.float32 else a for a in node.args)
            node.kwargs = named
        module.recompile()
    return module(frames)


def _write_onnx(program: Program, frames: Tensor, path: Path, texts: Mapping[str, str]) -> None:
    exported: Any = torch.onnx.export(
        copy.deepcopy(program).float(),
        (frames,),
        dynamo=True,
        verbose=False,
        input_names=["frames"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    exported.model.metadata_props.update(texts)
    path.write_bytes(exported.model_proto.SerializeToString())


def _run_onnx(path: Path, frames: Tensor) -> Tensor:
    if frames.dtype == torch.float64:
        return torch.from_numpy(_in_float64(path).run(None, {"frames": frames.numpy()})[0])
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"frames": frames.numpy()})[0])


def _in_float64(path: Path) -> Any:
    """ONNX's reference implementation of the file, for which onnxruntime has no convolutions."""
    import onnx
    from onnx import numpy_helper
    from onnx.reference import ReferenceEvaluator

    model, single = onnx.load(path), onnx.TensorProto.FLOAT
    attributes = [a for node in model.graph.node for a in node.attribute]
    tensors = [*model.graph.initializer, *(a.t for a in attributes if a.HasField("t"))]
    for tensor in tensors:
        if tensor.data_type == single:
            wide = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    for attribute in attributes:
        if attribute.name == "to" and attribute.i == single:
            attribute.i = onnx.TensorProto.DOUBLE
    return ReferenceEvaluator(model)


_ONNX = "onnx", "onnxscript", "onnxruntime"
_KNOWN = (
    Format("torch", (), _write_torch, _run_torch, float),
    Format("onnx", _ONNX, _write_onnx, _run_onnx, lambda constant: float(np.float32(constant))),
    Format("nir", ("nir",), nir_graph.write, nir_graph.run, nir_graph.constant_of),
)
FORMATS = {form.name: form for form in _KNOWN}
