"""All image grids of a run.

Each exhibit changes one thing along its columns and keeps everything else bit-identical. Attribute grids cross the
values of two attributes, with one noise vector. Paths interpolate between two noise vectors or two labels, or scale the
noise down.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from trainer.exhibits.attribute_grids import attribute_grids, attribute_index
from trainer.exhibits.path_grids import label_paths, noise_path, truncation
from trainer.exhibits.source import Exhibit, Source
from trainer.generation.prompts import Vocabulary


def exhibits(
    vocabulary: Vocabulary, noise_size: int, seed: int, device: torch.device, attributes: Sequence[str] = ()
) -> Iterator[Exhibit]:
    """Yield all exhibits of a run.

    If labels have a vector or a caption, there are no attribute grids: it would contradict what a grid changes.

    Args:
        noise_size: length of z.
        seed: determines the noise and the labels.
        device: of z.
        attributes: names of attributes to cross; () for the exclusive ones with the most values, and a grid of tags.

    Raises:
        UserError: an attribute does not exist, or cannot be changed by words.
    """
    source = Source(vocabulary, noise_size, seed, device)
    chosen = [attribute_index(vocabulary.schema, name) for name in dict.fromkeys(attributes)]
    grids = list(attribute_grids(source, chosen))  # raises before anything is generated
    names: set[str] = set()
    for exhibit in (*grids, noise_path(source), *label_paths(source), truncation(source)):
        name, number = exhibit.name, 2
        while name in names:
            name, number = f"{exhibit.name}-{number}", number + 1
        names.add(name)
        yield exhibit._replace(name=name)
