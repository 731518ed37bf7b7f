"""The HTTP service: requests are queued, gathered into batches and computed by worker processes.

The path of a request: a function of ``routes`` reads its body (``bodies``) and parses it, ``state`` checks its claims
and waits for the answer, ``batcher`` queues it among a bounded number of others, ``workers`` hands batches to a process
that runs ``engine``, the only file that runs networks. ``app`` runs the server and drains it on SIGTERM.
"""
