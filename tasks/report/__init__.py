"""The report: what a sweep found, as one HTML page that needs no server, no network and no explanation."""
