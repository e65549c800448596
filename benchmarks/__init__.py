"""What the library costs, measured as ratios inside one process run: ``python -m benchmarks``."""
