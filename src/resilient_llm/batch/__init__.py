"""Many prompts through one client: what ``client.map()`` is made of.

``prompts`` says what a prompt is, ``results`` what becomes of it, ``file`` how results are kept and a run is resumed,
``width`` how many are under way at once, ``work`` what both clients share, ``threads`` and ``tasks`` the two iterators.
"""
