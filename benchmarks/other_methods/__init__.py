"""Other methods that `time_to_quality.py` compares with: how each trains and what it generates."""
