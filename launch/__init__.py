"""The console command `cgan`, SLURM jobs, the check before a job, and the W&B dashboard; never imports torch."""
