"""What happened to a client over time, counted and drawn: the demonstration and chaos experiments share it.

``story`` is what was observed, ``figures`` counts it, ``words`` tells events as sentences, ``drawing`` makes one
picture of it all and ``style`` says how the page around that looks.
"""
