"""Write a generator as a `torch.export` program: a graph that torch runs without this project."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path

import torch

from shards.core.atomic_io import write_bytes
from trainer.export.folder import describe
from trainer.export.graph import Example, Graph, described_label, require_unused_file
from trainer.generation.sampler import Sampler

NOTES = "generator.json"  # the extra file of a program that says what its inputs are
_TRACES = ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node")  # file names and lines of this machine


def write_torch_program(sampler: Sampler, source: Path, out: Path, *, force: bool = False) -> None:
    """Write G(noise, label, known) for any batch size; it is checked before it is written.

    Args:
        sampler: what `load` returned for ``source``, on the CPU.
        source: the run directory, or an earlier export.
        out: a .pt2 file.
        force: replace ``out``.

    Raises:
        UserError: ``out`` has another name or is in use.
        Failure: the images of the program are not those of the generator, or the disk is full.
    """
    require_unused_file(out, ".pt2", force)
    graph, example = Graph(sampler.generator), Example.of(sampler)
    notes = json.dumps({**describe(sampler, source), **described_label(sampler)}, ensure_ascii=False)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own deprecations
        program = torch.export.export(graph, example.rows(2), dynamic_shapes=graph.dynamic_shapes())
        for node in program.graph.nodes:
            for trace in _TRACES:
                node.meta.pop(trace, None)
        torch.export.save(program, buffer, extra_files={NOTES: notes})
        buffer.seek(0)
        reopened = torch.export.load(buffer).module()
    for count in (1, 3, len(example.noise)):
        inputs = example.rows(count)
        with torch.no_grad():
            graph.check("torch.export", reopened(*inputs).numpy(), inputs)
    write_bytes(out, buffer.getvalue())
