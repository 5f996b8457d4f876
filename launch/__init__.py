"""Starting the trainer on clusters: job scripts, submission, requeueing. Knows the trainer's options, never torch."""
