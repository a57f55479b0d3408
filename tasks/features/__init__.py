"""Bars into features: kernels, the registry, and the proof that none of them sees the future."""
