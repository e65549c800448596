"""A scripted bad day: three providers on loopback, real traffic through a client, and a report of what callers noticed.

``acts`` is the script and ``stage`` the providers it happens to, ``callers`` the traffic, ``story`` what was observed;
``report`` counts, ``view`` and ``screens`` show it while it happens, ``timeline`` and ``page`` draw it afterwards,
``show`` runs it all and ``command`` is the command line.
"""
