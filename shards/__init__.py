"""Datasets: pack images and tags into WebDataset tars with an index, and stream batches from them."""

from shards.core.version import __version__ as __version__
