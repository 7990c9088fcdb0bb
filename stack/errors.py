"""The one error that ends a command with a message instead of a stack trace."""


class StackError(Exception):
    """Something is wrong that the person at the keyboard can mend."""
