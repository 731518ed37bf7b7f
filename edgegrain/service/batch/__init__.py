"""``edgegrain batch``: compress or restore folders and object stores of files, on Ray Data."""
