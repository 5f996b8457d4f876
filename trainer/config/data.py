"""Options of the data: where it is, in which order it is read, and the size of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shards.core import cli
from shards.core.cli import option
from shards.core.errors import UserError
from shards.stream.sampling import ORDERS as ORDERS
from shards.stream.sampling import Sampling


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The dataset, its cache, and how batches are drawn from it."""

    shards: str | None = option(
        None, "dataset made by `cgan pack`: a directory or a URL (s3://, https://, …)", may_change=True, literal=True
    )
    cache: Path | None = option(
        None,
        "local directory that shards are copied to (default for URLs: ~/.cache/cgan-trainer/shards)",
        may_change=True,
    )
    cache_limit: float = option(
        50, "size limit of the cache in GB; the least recently used shards are evicted", above=0, may_change=True
    )
    decoded_cache: str = option(
        "auto",
        "where decoded images are kept, so that each is decoded once; auto: in ~/.cache/cgan-trainer/decoded, if all "
        "fit on a local disk; off: nowhere; or a directory",
        may_change=True,
    )
    order: str = option(
        "auto",
        "full: shuffle all samples once per epoch; windowed: shuffle within a few shards at a time; "
        "auto: windowed if shards are cached, else full",
        choices=("auto", *ORDERS),
    )
    window: int = option(16, "shards shuffled together by --order windowed", minimum=1)
    unlabelled_share: float | None = option(
        None,
        "fraction of each batch drawn from unlabelled images (default: natural proportion)",
        minimum=0,
        maximum=1,
    )
    balance: str | None = option(None, "attribute whose values are drawn equally often (default: no balancing)")
    damaged_limit: float = option(
        0.001,
        "stop the run if more than this fraction of the images is damaged; damaged images are replaced by others",
        minimum=0,
        maximum=1,
        may_change=True,
    )
    batch: int = option(64, "global batch size: images per step over all processes", minimum=1)

    def __post_init__(self) -> None:
        """Validate the section.

        Raises:
            UserError: a value is out of bounds.
        """
        cli.validate(self)
        if self.unlabelled_share == 1:
            raise UserError(
                "option-conflict", "--unlabelled-share 1 leaves no labelled images to learn from; use a value below 1"
            )

    @property
    def sampling(self) -> Sampling:
        """How samples are drawn; `order` must not be "auto" any more."""
        return Sampling(self.order, self.window, self.unlabelled_share, self.balance)
