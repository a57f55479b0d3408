"""A local market that speaks the vendor's protocol on loopback, for first runs, tests and benchmarks.

It shares no code with the rooms that read the vendor: both sides follow the published protocol, so that they cannot
be wrong together. The words it uses for time and intervals are the vendor's (milliseconds, ``1M``).
"""
