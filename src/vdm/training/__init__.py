"""The training task with its callbacks, loggers, EMA, learning rates and signal handling."""
