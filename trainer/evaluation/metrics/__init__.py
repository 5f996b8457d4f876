"""Metrics of generated images: pure functions of features, logits and labels, and the registry that declares them."""
