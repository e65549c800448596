"""The version, said here and nowhere else: the package, its metadata and its ``user-agent`` take it from here."""

__version__ = "0.1.0"
