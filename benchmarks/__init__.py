"""Speed, against what users would pick instead: see benchmarks/README.md."""
