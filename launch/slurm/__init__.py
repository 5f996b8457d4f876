"""SLURM jobs: batch scripts that work as they lie here, and the command that writes their first part anew."""
