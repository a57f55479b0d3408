"""The live flow's own page and endpoints: health, metrics, state, and the few things a person may change."""
