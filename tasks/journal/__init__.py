"""What happened to orders, written down before it happens: append-only, hash-chained, durable before the first byte."""
