"""The one error that a user's input can cause. Imports nothing of ours; everything may import it."""


class InputError(ValueError):
    """Something the user gave cannot be used. The message names the file or key, what came, what was expected.

    The command line prints the message alone and exits with 1; any other exception is a defect of ours and
    keeps its traceback.
    """
