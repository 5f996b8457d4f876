"""Choose the width and the batch of a run of --minutes, by the speed of the machine and what is known of a preset."""
