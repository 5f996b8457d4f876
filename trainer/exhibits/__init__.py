"""Exhibits of what labels and noise do: image grids and films."""
