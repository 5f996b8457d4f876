"""SLURM jobs: batch scripts that work as they are, and the command that generates their first part for a site."""
