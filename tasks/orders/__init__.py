"""Orders as pure values: what one is, what may happen to it, and what it makes of a position. Decimal throughout."""
