"""Check bars against one table of rules, in two tiers, and keep the verdicts."""
