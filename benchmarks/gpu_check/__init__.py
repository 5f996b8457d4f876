"""Checks that need a GPU, in one command: ``make gpu-check`` (docs/benchmarks.md).

`__main__` runs the checks of `correctness`, `whole_runs` and `speed`, in the order in which they are worth their time.
"""
