"""What `open_questions.py` is made of: the data sets, the judging of runs, and the tables and plots."""
