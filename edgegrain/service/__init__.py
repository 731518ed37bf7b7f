"""The HTTP service: requests are queued, gathered into batches and computed by supervised worker processes.

The path of a request: ``routes`` reads a bounded body and checks its claims, ``batcher`` queues it among a bounded
number of others, ``supervisor`` hands batches to a process that runs ``worker`` and with it ``engine``, the only file
that runs networks. ``application`` assembles them, ``uvicorn_server`` runs the application and drains it on SIGTERM.
"""
