"""A project's workspace at Weights & Biases, made from what lies here."""
