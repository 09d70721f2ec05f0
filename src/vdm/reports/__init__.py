"""Pages and console tables, read from the files of runs."""
