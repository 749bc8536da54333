"""Bad input, told in one line: what is wrong, where, and what would be right."""

from __future__ import annotations


class BadInput(Exception):
    """The user's input cannot be used.

    ``message`` says what is wrong and what would be right; ``where`` is the file, key, line or row.
    The command line prints it as one line and exits with 2.

    >>> try:
    ...     rs.read_run("runs/none")
    ... except rs.BadInput as error:
    ...     print(error.where, "|", error.message)
    runs/none | there is no such folder; give the folder that `routesim run --out` wrote
    """

    def __init__(self, message: str, where: str | None = None) -> None:
        self.message = message
        self.where = where
        super().__init__(f"{where}: {message}" if where else message)
