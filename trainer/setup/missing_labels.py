"""A hint for datasets in which much is unknown: which options let unlabelled images teach labels."""

from __future__ import annotations

import numpy as np

from shards.dataset.dataset import Dataset
from shards.dataset.schema import WORDLESS
from trainer.config import Config
from trainer.config.network import CLASSIFYING, EMBEDDING_ENTRIES

_MUCH = 0.25  # fraction of all values that is worth a hint
_ROWS = 100_000  # that are looked at


def hint(config: Config, dataset: Dataset) -> str:
    """Return a line that names the options, or "" if little is unknown or the run has them already."""
    words = [index for index, attribute in enumerate(dataset.schema.attributes) if attribute.kind not in WORDLESS]
    known = np.asarray(dataset.known[:: -(-len(dataset) // _ROWS)], bool)
    unknown = 1 - known[:, words].mean() if words else 0.0
    if unknown < _MUCH or config.method.pseudo_labels or config.data.unlabelled_share == 0:
        return ""
    conditioning = config.network.resolved_conditioning
    if conditioning not in CLASSIFYING + EMBEDDING_ENTRIES:  # its discriminator recognizes no labels
        return ""
    options = ["--pseudo-labels 0.95"]
    if not config.method.label_loss and conditioning not in CLASSIFYING:
        options.append("--label-loss 0.5")
    if config.data.unlabelled_share is None and not known.any(1).mean() > 0.5:
        options.append("--unlabelled-share 0.5")
    return (
        f"{unknown:.0%} of the labels are unknown; with {' '.join(options)} the discriminator fills in what it "
        "recognizes (see --help)"
    )
