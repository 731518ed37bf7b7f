"""The outside of the project, recorded before it is rebuilt: `python -m tests.frozen check`."""
