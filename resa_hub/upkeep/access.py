"""The way to the Hub: endpoint and token. A token is never shown, not even a part of it."""

import os
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from ..hub.huggingface_client import is_loopback
from .check import OK, PROBLEM, WARNING, Check

SECONDS = 4.0
"""How long the endpoint may take to answer."""
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def check_access(offline: bool) -> list[Check]:
    """offline: nothing is asked of the network."""
    from huggingface_hub import constants

    endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
    where = token_place(Path(constants.HF_TOKEN_PATH))
    token = Check("token", where or "none: private and gated repositories are closed", step=_login(where))
    reason = "--offline" if offline else "HF_HUB_OFFLINE"
    if offline or constants.HF_HUB_OFFLINE:
        return [token, Check("endpoint", f"{without_password(endpoint)}; not asked: {reason}")]
    return [token, _endpoint(endpoint, has_token=bool(where))]


def _login(where: str) -> str:
    return "" if where else "hf auth login"


def token_place(file: Path) -> str:
    """Where the token of this user comes from; empty without one."""
    variable = next((name for name in TOKENS if os.environ.get(name, "").strip()), "")
    if variable:
        return f"present, from {variable}"
    try:
        return f"present, from {file}" if file.read_text(encoding="utf-8").strip() else ""
    except (OSError, UnicodeDecodeError):
        return ""


def without_password(url: str) -> str:
    """An address as it may be shown: what stands before an @ may be a password."""
    scheme, separator, rest = url.rpartition("://")
    host, slash, path = rest.partition("/")
    return scheme + separator + host.rpartition("@")[2] + slash + path


def _endpoint(endpoint: str, has_token: bool) -> Check:
    shown, url = without_password(endpoint), urlsplit(endpoint)
    if url.scheme not in ("http", "https") or not url.hostname:
        step = "write HF_ENDPOINT like https://hub.example.org, or unset it"
        return Check("endpoint", f"{shown} is not the address of a Hub", PROBLEM, step)
    if url.scheme == "http" and has_token and not is_loopback(url.hostname):
        step = "use an https endpoint, or log out with `hf auth logout`"
        return Check("endpoint", f"{shown}: the token is not sent over plain http", PROBLEM, step)
    answer = within(SECONDS, lambda: _answer(endpoint)) or f"no answer within {SECONDS:.0f} s"
    if answer == OK:
        return Check("endpoint", f"{shown} answers")
    step = "check the network and HF_ENDPOINT; local folders and the embedded models work without it"
    return Check("endpoint", f"{shown} cannot be reached: {answer}", WARNING, step)


def _answer(endpoint: str) -> str:
    """`ok`, or why not. Asked without a token, with the certificates that the Hub's client trusts."""
    import http.client
    import urllib.error
    import urllib.request

    import certifi

    context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=SECONDS, context=context)
    except urllib.error.HTTPError as error:
        return OK if error.code < 500 and error.code != 407 else f"it answers {error.code}"
    except urllib.error.URLError as error:
        return getattr(error.reason, "strerror", None) or str(error.reason)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    return OK


def within(seconds: float, ask: Callable[[], str]) -> str:
    """What `ask` returns, or nothing where it takes longer: a resolver of names knows no time limit."""
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(ask()), daemon=True)
    asking.start()
    asking.join(seconds)
    return answers[0] if answers else ""
