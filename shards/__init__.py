"""Datasets: pack images and tags into WebDataset tars with an index, and stream batches from them."""

__version__ = "0.1.0"
