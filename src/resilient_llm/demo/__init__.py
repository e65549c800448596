"""A scripted bad day: three providers on loopback, real traffic through a client, and a report of what callers noticed.

``acts`` is the script and ``stage`` the providers it happens to, ``callers`` the traffic; ``report`` says what it came
to, ``view`` and ``screens`` show it while it happens, ``page`` draws it afterwards, ``show`` runs it all and
``command`` is the command line.  What is observed, and its picture, is at home in ``resilient_llm.chaos.timeline``.
"""
