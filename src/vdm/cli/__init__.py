"""The commands: compose, instantiate, run."""
