"""From options to a running loop: build everything, enter the run directory, train or only describe it (--dry-run).

All ranks call the same functions, and a `UserError` on one of them ends all.
"""
