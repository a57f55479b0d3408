"""Runs parameter sets fast: `sets` is what other modules call, `loops` is compiled."""

from tasks.sweep.engine.sets import LOG_WIDTH, WIDTH, run_sets, trade_set

__all__ = ["LOG_WIDTH", "WIDTH", "run_sets", "trade_set"]
