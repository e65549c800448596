"""The tests.  Hypothesis times no example: on a busy machine one takes as long as it takes."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
