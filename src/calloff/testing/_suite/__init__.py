"""What a sweep of a whole test suite adds up to: faults over all tests, awaits by file, a baseline, what has changed."""
