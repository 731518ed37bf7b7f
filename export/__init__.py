"""Writing both halves for other runtimes, and proving that what was written computes the same."""
