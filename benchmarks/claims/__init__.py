"""What the lecture claims, measured: python -m benchmarks.claims [SECTION[.CLAIM]...]."""
