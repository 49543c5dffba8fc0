"""What the environment says about the way to a provider: proxies and certificate authorities.

Owns which variables count and how they are checked; uses none of it.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from backstay.errors import UsageError

_SCHEMES: Final = ("http://", "https://", "socks4://", "socks4a://", "socks5://", "socks5h://")


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """Proxies by the scheme of what is asked for, hosts that need none, authorities as PEM."""

    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""
    authorities: bytes = b""

    def __repr__(self) -> str:
        return "Surroundings(...)"


def read(environ: Mapping[str, str], ca_file: str = "") -> Surroundings:
    """Reads HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY (either case) and SSL_CERT_FILE.

    `ca_file` goes before SSL_CERT_FILE. Raises `UsageError` for a value that can't be used.
    """
    # A web server hands a client's "Proxy:" header to CGI programs as HTTP_PROXY.
    upper = () if "REQUEST_METHOD" in environ else ("HTTP_PROXY",)
    return Surroundings(
        http_proxy=_proxy(environ, "http_proxy", *upper, "all_proxy", "ALL_PROXY"),
        https_proxy=_proxy(environ, "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
        no_proxy=environ.get("no_proxy") or environ.get("NO_PROXY") or "",
        authorities=_authorities(environ, ca_file),
    )


def _proxy(environ: Mapping[str, str], *names: str) -> str:
    name = next((name for name in names if environ.get(name)), "")
    url = environ.get(name, "").strip()
    if not url:
        return ""
    if "://" not in url:
        url = f"http://{url}"
    host = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    if not url.lower().startswith(_SCHEMES) or not host or not url.isprintable() or " " in url:
        raise UsageError(f"{name} is not the URL of a proxy: write it as http://host:port")
    return url


def _authorities(environ: Mapping[str, str], ca_file: str) -> bytes:
    path = ca_file or environ.get("SSL_CERT_FILE", "")
    if not path:
        return b""
    origin = "the CA file" if ca_file else "SSL_CERT_FILE"
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise UsageError(f"{origin} can't be read: {path}: {error.strerror}") from None
    if b"-----BEGIN CERTIFICATE-----" not in content:
        raise UsageError(f"{origin} holds no PEM certificate: {path}")
    return content
