"""`cgan check`: check that a machine or cluster is ready for a job.

Every module checks one thing: its ``gather`` collects plain facts on each rank, and its ``assess`` turns the facts of
all ranks into findings on rank 0. Only these facts (JSON) are sent between the ranks.
"""
