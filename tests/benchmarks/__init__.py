"""Benchmarks that ship their own floor: `python -m tests.benchmarks`. See docs/performance.md."""
