"""Data: sources, splits, preprocessing, augmentation, and the order in which examples come."""
