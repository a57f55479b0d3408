"""Portfolios of symbols or of strategies: weights from the past alone, rebalanced through VectorBT with shared cash."""
