"""Errors made for the person who reads them."""


class MerlbError(Exception):
    """Something a person can mend. One line: what was found, where, what was expected, what to do.

    The command prints the message and exits with 1; ``--debug`` adds the trace.
    """
