"""Cells and texts that hold tags: separators, lists, weights, escapes, and phrases."""
