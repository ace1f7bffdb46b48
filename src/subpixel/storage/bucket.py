"""Access to buckets through obstore, with errors of one line that say what to do."""

import errno
import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subpixel.storage.base import Conflict

if TYPE_CHECKING:
    from obstore.store import S3Store

_RETRIES = 8
_RETRY_SECONDS = 60
"""Requests are repeated after 0.1 s, 0.2 s and so on: about 20 s altogether if nothing answers."""

_REQUEST_SECONDS = 60
_BYTES_IN_TIME = 8 << 20
"""A request of so many bytes may take `_REQUEST_SECONDS`, and one of twice as many twice as long. Then a
connection that gives nothing any more is lost."""

_TRUE = ("1", "true", "on", "yes", "y")

_SETTINGS = ("AWS_", "HOME", "USERPROFILE")
"""The environment variables that select endpoint and credentials begin so."""


def store_for(bucket: str, sent_bytes: int = 0) -> "S3Store":
    """Return the client of a bucket, by the environment variables that other tools for S3 use.

    Args:
        bucket: the name.
        sent_bytes: of the largest request, which may take longer than one that only reads.

    Raises:
        OSError: the extra ``s3`` is not installed, or a variable is wrong.
    """
    settings = frozenset(item for item in os.environ.items() if item[0].startswith(_SETTINGS))
    return _store(bucket, _REQUEST_SECONDS << (sent_bytes // _BYTES_IN_TIME).bit_length(), settings)


@lru_cache(maxsize=64)
def _store(bucket: str, seconds: int, settings: frozenset[tuple[str, str]]) -> "S3Store":
    try:
        from obstore.store import S3Store
    except ImportError as error:
        raise OSError(
            errno.ENOSYS, "s3:// needs another package; install it with: pip install 'subpixel[s3]'"
        ) from error
    environment = dict(settings)
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    if endpoint and not re.match(r"https?://[^/]", endpoint):
        raise OSError(
            errno.EINVAL, f"AWS_ENDPOINT_URL={endpoint!r} is no URL; write http://HOST:PORT or https://HOST"
        )
    options: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
    client: Any = {
        "connect_timeout": "5s",
        "timeout": f"{seconds}s",
        # Whoever names an endpoint of http:// wants it.
        "allow_http": environment.get("AWS_ALLOW_HTTP", "true").lower() in _TRUE,
    }
    retries: Any = {
        "max_retries": _RETRIES,
        "retry_timeout": timedelta(seconds=_RETRY_SECONDS),
        "backoff": {
            "init_backoff": timedelta(seconds=0.1),
            "max_backoff": timedelta(seconds=10),
            "base": 2,
        },
    }
    try:
        return S3Store(
            bucket,
            client_options=client,
            retry_config=retries,
            credential_provider=_profile(environment),
            **options,
        )
    except Exception as error:  # obstore's errors have no common base with ValueError
        raise OSError(errno.EINVAL, f"a variable of S3 is wrong: {_first_line(error)}") from error


def _profile(environment: dict[str, str]) -> Any:
    """Return what reads the profiles of AWS's command line, if they are used and boto3 is installed."""
    if "AWS_ACCESS_KEY_ID" in environment or environment.get("AWS_SKIP_SIGNATURE"):
        return None
    files = [Path.home() / ".aws" / name for name in ("credentials", "config")]
    if "AWS_PROFILE" not in environment and not any(map(os.path.isfile, files)):
        return None
    if importlib.util.find_spec("boto3") is None:
        return None
    from obstore.auth.boto3 import Boto3CredentialProvider

    return Boto3CredentialProvider()


_CODE = re.compile(r"<Code>(\w+)</Code>")
_REGION = re.compile(r"(?:<Region>|expecting ')([a-z0-9-]+)")
_STATUS = re.compile(r"status code: (\d+ [A-Za-z ]+)")

_WRONG_KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_REASONS = {
    "NoSuchBucket": "the bucket does not exist; create it, or correct its name",
    "InvalidBucketName": "this cannot be the name of a bucket; correct it",
    "AccessDenied": "these credentials have no right to do this; ask who owns the bucket for it",
    "InvalidAccessKeyId": f"the access key is unknown there; {_WRONG_KEYS}",
    "SignatureDoesNotMatch": f"the secret key is wrong; {_WRONG_KEYS}",
    "ExpiredToken": "the credentials have expired; get new ones",
    "InvalidToken": "the session token is wrong; get new credentials, or unset AWS_SESSION_TOKEN",
    "RequestTimeTooSkewed": "the clock of this machine is wrong; set it",
    "EntityTooLarge": "it is larger than this storage allows",
    "QuotaExceeded": "the bucket is full",
    "XMinioStorageFull": "the storage is full",
}


@contextmanager
def bucket_errors(url: str) -> Iterator[None]:
    """Turn obstore's errors into ``OSError`` or `Conflict`.

    Raises:
        FileNotFoundError: there is no such object.
        FileExistsError: there is one, and there must not be.
        Conflict: it was changed meanwhile.
        OSError: all else, with one line in ``strerror`` that says why, and what to do.
    """
    from obstore import exceptions

    try:
        yield
    except exceptions.AlreadyExistsError as error:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), url) from error
    except exceptions.PreconditionError as error:
        raise Conflict(f"{url}: was changed by another process") from error
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error):
            raise OSError(errno.EIO, _REASONS["NoSuchBucket"], url) from error
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), url) from error
    except exceptions.PermissionDeniedError as error:
        raise PermissionError(errno.EACCES, _reason(str(error)), url) from error
    except exceptions.BaseError as error:
        raise OSError(errno.EIO, _reason(str(error)), url) from error
    except ValueError as error:  # an object cannot have this name
        raise OSError(errno.EINVAL, _first_line(error), url) from error


def _reason(text: str) -> str:
    """Return why a request failed, in one line."""
    code = _CODE.search(text)
    if code is not None and code[1] in _REASONS:
        return _REASONS[code[1]]
    region = _REGION.search(text)
    if region is not None or "PermanentRedirect" in text or "redirect without LOCATION" in text:
        there = f"; set AWS_REGION to {region[1]}" if region else "; set AWS_REGION to that of the bucket"
        return f"the bucket is in another region{there}"
    if "169.254.169.254" in text or "169.254.170" in text:
        return f"there are no credentials; {_WRONG_KEYS}, or AWS_SKIP_SIGNATURE=true for a public bucket"
    if "scheme is not allowed" in text or "BadScheme" in text:
        return "the endpoint is http://, which AWS_ALLOW_HTTP forbids; set it to true, or use https://"
    if status := _STATUS.search(text):
        answer = f"{status[1].strip()}{f', {code[1]}' if code else ''}"
        if status[1].startswith("403"):
            return f"{_REASONS['AccessDenied']} ({answer})"
        return f"the server answers {answer}; try again later, or look at its log"
    if "kind: Connect" in text or "dns error" in text or "error sending request" in text:
        return "the server cannot be reached; check the network and AWS_ENDPOINT_URL"
    if "kind: Timeout" in text or "timed out" in text.lower():
        return "the server does not answer in time; check the network, and try again"
    return _first_line(text)


def _first_line(error: object) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
