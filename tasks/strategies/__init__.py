"""Strategies, one a file: a parameter model, the indicators it shares, and a signal function.

Importing this package compiles nothing; a strategy is loaded by `tasks.strategies.registry.get`.
"""
