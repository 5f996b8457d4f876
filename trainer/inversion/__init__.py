"""One's own image: find the noise and the label with which a generator draws it, then change words."""
