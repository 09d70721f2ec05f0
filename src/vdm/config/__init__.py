"""From composed configs to checked objects."""
