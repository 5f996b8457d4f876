"""Modules of `time_to_quality.py`: the legs and their results."""
