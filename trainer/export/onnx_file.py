"""Write a generator as one ONNX file, which says itself in what order the entries of a label are."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shards.core.atomic_io import write_bytes
from shards.core.errors import UserError
from trainer.export.folder import describe
from trainer.export.graph import INPUTS, OUTPUT, Example, Graph, described_label, require_unused_file
from trainer.generation.sampler import Sampler

_OPSET = 20


def write_onnx(sampler: Sampler, source: Path, out: Path, *, force: bool = False) -> None:
    """Write G with the inputs noise, label and known, for any batch size; it is checked before it is written.

    Args:
        sampler: what `load` returned for ``source``, on the CPU.
        source: the run directory, or an earlier export.
        out: a .onnx file.
        force: replace ``out``.

    Raises:
        UserError: a package is missing, or ``out`` has another name or is in use.
        Failure: the images of the graph are not those of the generator, or the disk is full.
    """
    require_unused_file(out, ".onnx", force)
    _require_packages()
    graph, example = Graph(sampler.generator), Example.of(sampler)
    model = _translate(graph, example)
    for key, value in _notes(sampler, source).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    data = model.SerializeToString()
    _check(data, graph, example)
    write_bytes(out, data)


def _require_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise UserError(
            "package-missing",
            '--to onnx needs packages that are not installed: pip install "cgan-trainer[export]"',
        ) from None


def _translate(graph: Graph, example: Example) -> Any:
    """Return the graph as an onnx.ModelProto, without the file names and lines that the exporter notes at each node."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own deprecations
        program = torch.onnx.export(
            graph,
            example.rows(2),
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_shapes=graph.dynamic_shapes(),
            opset_version=_OPSET,
            dynamo=True,  # the older exporter does not know the filter of r3gan
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for part in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info):
        del part.metadata_props[:]
        part.doc_string = ""
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    model.graph.name = "generator"
    return model


def _notes(sampler: Sampler, source: Path) -> dict[str, Any]:
    """Return what the file says about itself; keys and meanings are those of docs/export.md."""
    return {**describe(sampler, source), **described_label(sampler)}


def _check(data: bytes, graph: Graph, example: Example) -> None:
    """Draw the examples with onnxruntime, in batches of several sizes, and compare them with torch's.

    Raises:
        Failure: a pixel differs by more than 1/255.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    for count in (1, 3, len(example.noise)):
        inputs = example.rows(count)
        feeds = {name: tensor.numpy() for name, tensor in zip(INPUTS, inputs, strict=True)}
        graph.check("onnxruntime", np.asarray(session.run([OUTPUT], feeds)[0]), inputs)
