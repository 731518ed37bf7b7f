"""The HTTP service: requests are queued, gathered into batches and computed by worker processes.

The path of a request: ``routes`` reads a bounded body and checks its claims, ``batcher`` queues it among a bounded
number of others, ``workers`` hands batches to a process that runs ``engine``, the only file that
runs networks. ``app`` assembles them, runs the server and drains it on SIGTERM.
"""
