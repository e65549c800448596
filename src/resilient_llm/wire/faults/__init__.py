"""What an answer means: errors, limits, times."""
