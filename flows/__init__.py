"""Wiring only: one file per deployment, no arithmetic and no parsing."""
