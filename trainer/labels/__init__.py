"""How much the parts of a label count: numbers as much as words, and attributes as much as images show them."""
