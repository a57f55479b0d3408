"""The vendor's live side: a market-data connection that never lies about its state."""
