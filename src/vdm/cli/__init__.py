"""The commands: compose, construct, run."""
