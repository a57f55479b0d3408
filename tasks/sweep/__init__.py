"""Sweeps: many parameter sets of one strategy, chosen in sample, judged out of sample."""
