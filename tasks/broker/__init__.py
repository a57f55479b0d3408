"""Brokers behind one port: the paper one, the local market's, and any exchange of ccxt."""
