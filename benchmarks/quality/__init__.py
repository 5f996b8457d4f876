"""What `time_to_quality.py` is made of: the legs, and how they went."""
