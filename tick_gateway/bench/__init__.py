"""``tick-gateway bench``: the transports against each other, on ticks of its own.

One process steers (``run``); the gateway, the publisher and the readers are processes of their own. What comes out is
a row of outcomes (``plan.Outcome``), which ``table``, ``report`` and ``--json`` show.

    plan, stats             what is to be measured, and what came out
    speech, decode, hearing how to ask each transport, and how to find ticks in what it answers
    publisher, readers      the load
    proc                    /proc of the gateway
    network, place, relay   a network of its own
    stage, measurement      what a case needs around it, and its steps
    sentences, plot, report, table
                            what it means, for people
    command                 the command line
"""
