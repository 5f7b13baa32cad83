"""What tests share. Each helper is here once; test files hold tests.

harness           a gateway on the test's own loop, read by the readers below: the conformance suite's
serving           a gateway on the test's own loop, with aiohttp's client before it
gateway_process   processes: a gateway as users start it, one that is killed and started again, any other program
simulation        (``tests/simulation``) bus, fan-out and sessions on a loop that is turned by hand

readers           a reader of each transport, and their registry
reconnecting      the same, as clients that come back after every loss
events            what readers get, and the ledger of what was published, which it is held against
command_client    a WebSocket client that sends commands
aiohttp_readers   a reader of each transport with aiohttp, as a user writes it
peers             readers with the libraries of others, a program

async_client      HTTP and WebSocket on asyncio, strict
blocking_client   HTTP and WebSocket on a blocking socket, well-formed or not
frames            WebSocket frames as a client sends them, proper or not
decoders          messages in what a gateway writes, on ``tick_gateway.bench.decoders``
encoded           bodies in a content coding
requests          one request and its answer
pulled            what an answer of a pull says beside its body

made_history      a history that is written with receive times of the test's choice, and a gateway on it
stored_ticks      a gateway that has published a run into sealed files, an open one and an open block
stored_blocks     blocks of a stored run that lie in memory, with faults where a test wants them
recorded          a history that is written with the recorder, and opened as a start does
history_files     a history as any program sees it: zstd files
history_scenario  a gateway with history that is damaged, filled up or killed, with readers all along
faulty_disk       a disk that fails; mounts: one of a given size
backend           another program that writes files of ticks

bad_input, bad_lines    what no gateway takes
bus               shorthand for tests of the bus
bench_outcomes, bench_wire    what a bench measured, and what it reads, made by hand
cutting_proxy, proxies, tls, browser    what lies between client and gateway, and a browser
markdown          pages of the docs
needs             programs that a test cannot do without
environments      what others set in a gateway's environment
"""
