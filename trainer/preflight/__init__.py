"""The check of a place before a job: what each rank looks at there, and how what they find is judged.

`python -m launch check` starts it. Every file looks at one thing: its ``look`` gathers plain facts on a rank, its
``judge`` turns the facts of all ranks into findings on rank 0, and nothing but the facts goes between the two.
"""
