"""The part of webdataset that packing needs, for machines without it."""
