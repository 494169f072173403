"""A program as an ONNX graph, for onnxruntime and others."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import onnxscript  # noqa: F401  (torch's exporter takes it)
import torch
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from .plain import Program


def tau_of(tau: float) -> float:
    """A neuron's time constant as the file's float32 gives it back."""
    return float(np.float32(tau))


def write(program: Program, frames: Tensor, path: Path, texts: Mapping[str, str]) -> None:
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


def run(path: Path, frames: Tensor) -> Tensor:
    session: Any = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    if frames.dtype == torch.float64:  # for which onnxruntime has no convolutions
        session = _in_float64(path)
    return torch.from_numpy(session.run(None, {"frames": frames.numpy()})[0])


def _in_float64(path: Path) -> ReferenceEvaluator:
    """ONNX's reference implementation of the file."""
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
