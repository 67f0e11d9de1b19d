"""Runs on a SLURM cluster: a recipe and what is asked of the cluster enter; a readable sbatch script, checked
and submitted, leaves. The script's template is `job.sbatch` in this folder.
"""
