"""How good generated pictures are: figures, and what they are made from."""
