"""The command line ``edgegrain``: one file a command, heavy imports only inside the command that needs them; those of
authors of bundles in `edgegrain.cli.authoring`."""
