"""Reporting: the progress bar, the files of a run folder, the pictures."""
