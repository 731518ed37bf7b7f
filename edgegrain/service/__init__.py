"""The decoder as a service: HTTP in front, dynamic batches in the middle, supervised worker processes behind.

A request's way: ``routes`` reads a bounded body and checks its claims, ``batcher`` queues it among a bounded number of
others, ``supervisor`` hands batches to a process that runs ``worker`` and with it ``engine``, the only file that opens
networks. ``application`` puts them together, ``server`` runs the whole under uvicorn and drains it on SIGTERM.
"""
