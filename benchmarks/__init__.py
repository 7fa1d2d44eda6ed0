"""calloff's figures beside those of its peers, measured in one run: ``python -m benchmarks`` prints them as one table.

How it is measured, and why that can be trusted on a machine that is not quiet, is told in docs/explanation/benchmarks.md.
"""
