"""Modules of `open_questions.py`: datasets, evaluation of runs, tables and plots."""
