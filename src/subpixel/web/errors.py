"""Errors that become answers to a request."""


class RequestError(Exception):
    """A request that is refused.

    Attributes:
        status: of HTTP.
        message: what is wrong and the cure, for users.
        headers: of the answer.
    """

    def __init__(self, status: int, message: str, *, retry_after: int | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)
