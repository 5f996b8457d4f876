"""Readers of labelled images in the layouts that people keep them in; see `shards.sources.registry.scan_source`."""
