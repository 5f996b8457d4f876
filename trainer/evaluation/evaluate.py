"""`cgan evaluate RUN` and `trainer.evaluate`: measure the images of a trained generator.

Images are generated from labels of the dataset. A judge says whether they show their labels, and their features are
compared with those of real images. Several processes share the work (`accelerate launch … -m trainer evaluate`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shards.core import cli
from trainer.distributed.process_group import Distributed
from trainer.evaluation.run_evaluation import EvaluateOptions, evaluate_run
from trainer.reporting import evaluation_table
from trainer.run import evaluation_file, exported

_TIMEOUT = 24 * 3600.0  # seconds that other processes wait for rank 0, which trains judges and reads real images


@dataclass(frozen=True)
class Evaluation(Mapping[str, float]):
    """The result of `evaluate`: metric values of the generated images by key, as ``evaluation["fid"]``.

    ``str(evaluation)`` is a table of all values with their real-vs-real baseline and meaning. A key of the second
    judge ends in ``@judge2``, one of further features in their name, as ``fid@lite2``.

    Attributes:
        images_seen: of the evaluated checkpoint.
        entry: the entry of the run's ``evaluation.json``, including the circumstances that reproduce it.
    """

    images_seen: int
    entry: Mapping[str, Any]

    def __getitem__(self, key: str) -> float:
        return self.entry["figures"][key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entry["figures"])

    def __len__(self) -> int:
        return len(self.entry["figures"])

    def __str__(self) -> str:
        return evaluation_table.table(self.images_seen, self.entry)

    @property
    def real(self) -> Mapping[str, float]:
        """Return the real-vs-real baseline: the values that a perfect generator would reach, by key."""
        return self.entry["real"]

    @property
    def marks(self) -> Mapping[str, Sequence[str]]:
        """Return why a value may be biased, by key: what it shares with the run's training (see `lineage.json`).

        "training-images", "teaching-network" or "taught-labels"; keys of values that share nothing are missing.
        """
        return self.entry["marks"]

    @property
    def notes(self) -> Sequence[str]:
        """Return what a reader of the values must know, such as why a metric was left out."""
        return self.entry["notes"]


def main(argv: Sequence[str]) -> None:
    """Run `cgan evaluate`, on every process of the job.

    Raises:
        UserError: the run cannot be evaluated as requested; it is unchanged.
    """
    options = cli.parse(EvaluateOptions, argv, command="cgan evaluate")
    with Distributed(options.device, "no", options.threads, _TIMEOUT) as env, env.coordinate_errors():
        env.print(str(Evaluation(*evaluate_run(options, env, progress=True))))
        report = "" if exported.is_export(options.run) else f", {options.run / 'report.html'}"
        env.print(f"\n{evaluation_file.path_of(options.run)}{report}")


def evaluate(
    run: str | Path,
    *,
    count: int = 5000,
    metrics: Sequence[str] = (),
    checkpoint: str | int | None = None,
    seed: int = 0,
    features: Sequence[str] = (),
    inception: str | Path | None = None,
    shards: str | Path | None = None,
    device: str = "auto",
    threads: int = 0,
    verbose: bool = False,
) -> Evaluation:
    """Measure the images of a trained generator, and whether they show their labels.

    The same arguments give the same values. The result is also written to the run directory: ``evaluation.json``,
    ``evaluation/*.png`` and ``report.html``. The first call on a dataset trains two judges of its labels (about a
    minute each) and computes features of its images; all are cached.

        >>> evaluation = trainer.evaluate("runs/first", count=5000)
        >>> evaluation["fid"], evaluation.real["fid"]
        >>> print(evaluation)

    Args:
        run: run directory.
        count: number of images to generate, at least 16.
        metrics: names as in ``--metrics``: "fidelity", "fid", "kid", "prdc", "novelty", "diversity", …;
            () for all that the dataset allows.
        checkpoint: images seen of the checkpoint, or "best"; None for the newest.
        seed: determines the labels, the noise and the real images to compare with.
        features: names as in ``--features``: "lite0", "lite1", "lite2", "judge", "inception"; the first one's values
            have plain keys, another's its name, as ``fid@lite2``. () for "auto": lite0 if it is installed, otherwise
            the judge's features.
        inception: file of Inception's weights, for values that compare with those in papers.
        shards: directory or URL of the run's dataset; None for where it was during training.
        device: "auto", "cpu", "cuda" or "mps".
        threads: CPU threads; 0 for all cores.
        verbose: show progress bars on a terminal, and print the table of the values.

    Returns:
        A mapping of keys to values. Keys that cannot be computed are missing, and `Evaluation.notes` says why.

        ===================== =====================================================================================
        ``fidelity``          label accuracy: fraction of images in which all that the judge recognises is right
        ``fidelity/NAME``     label accuracy of one attribute
        ``fidelity@judge2``   the same by a second judge of another architecture, which confirms the first; for every
                              key of ``fidelity``
        ``fidelity_new``      label accuracy of combinations of values that do not occur in the dataset
        ``fid``               Fréchet distance of the features; the FID of papers only with Inception's features
        ``kid``               kernel distance of the features; unbiased, may be below 0
        ``kid_by_value``      mean of the kernel distances within each value of the labels
        ``precision``         fraction of generated images inside the support of the real ones
        ``recall``            fraction of real images inside the support of the generated ones
        ``density``           how densely real images surround generated ones; about 1 for a perfect generator
        ``coverage``          fraction of real images with a generated image in their neighbourhood
        ``spectrum``          mean difference of the power spectra in dB; blur and fine patterns raise it
        ``period2``           power of patterns that repeat every second pixel, in dB above that of real images
        ``memorised``         fraction of images as near to a training image as 1 % of real images are
        ``copying``           z-score; below -3: nearer to training images than real images are to each other
        ``diversity``         how much images of one label differ, relative to real images
        ===================== =====================================================================================

    Raises:
        UserError: the run cannot be evaluated as requested; it is unchanged.
        Failure: images cannot be read, or the result cannot be written.
    """
    options = EvaluateOptions(
        run=Path(run),
        count=count,
        metrics=tuple(metrics),
        checkpoint=None if checkpoint is None else str(checkpoint),
        seed=seed,
        features=tuple(features),
        inception=None if inception is None else Path(inception),
        shards=None if shards is None else str(shards),
        device=device,
        threads=threads,
    )
    before = torch.get_num_threads()
    try:
        with Distributed(device, "no", threads, _TIMEOUT) as env, env.coordinate_errors():
            evaluation = Evaluation(*evaluate_run(options, env, progress=verbose))
            if verbose:
                env.print(str(evaluation))
    finally:
        torch.set_num_threads(before)
    return evaluation
