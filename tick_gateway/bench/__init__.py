"""``tick-gateway bench``: the transports against each other, on ticks of its own.

One process controls the measurement (``measurement``); the gateway, the publisher and the readers run in processes of
their own. The results are outcomes (``scenario.Outcome``), which ``table``, ``report`` and ``--json`` show.

    command                 the command line
    cases                   what is compared: transports, codings, networks
    scenario, stats         what is to be measured, and what came out
    measurement             the steps of each case
    environment, network    the gateway that is measured, and a network of the bench's own
    processes, proc         the bench's own processes, and what /proc says of any
    publisher, readers      the load
    exchange, decoders      a request and its answer; bytes into messages
    verdict, plot, report, table
                            what it means, for people
"""
