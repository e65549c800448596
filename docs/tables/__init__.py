"""What the pages show of the code, asked of the code itself.  ``python docs/generate.py`` writes it."""
