"""The one exception for input that its giver can mend."""


class InvalidInput(ValueError):
    """What was given cannot be used; the message is one line that says what is wrong and what to do instead.

    The commands print the message without a traceback and end with exit status 2. Any other exception is a defect of
    the program and keeps its traceback.
    """
