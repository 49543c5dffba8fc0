"""The way to a provider: proxies, certificate authorities, and what is said when they fail."""

import base64
import socket
import ssl
from pathlib import Path

import pytest

from backstay.errors import UsageError
from backstay.model.environment import read
from tests.model.exchange import KEY, request, run
from tests.model.servers import (
    CERTIFICATES,
    Connection,
    RawServer,
    forwarding,
    pipe,
    tls,
    unanswered_port,
)

AUTHORITY = str(CERTIFICATES / "authority.pem")
OTHER = str(CERTIFICATES / "other.pem")


def _hello(connection: Connection) -> None:
    while connection.request():
        connection.answer(b"hello")


def _refusing_proxy(connection: Connection) -> None:
    connection.request()
    connection.answer(b"", "407 Proxy Authentication Required")


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_plain_requests_go_through_the_proxy(name: str) -> None:
    """As absolute URLs, with the proxy's own credentials only for the proxy."""
    with RawServer(_hello) as server, RawServer(forwarding) as proxy:
        environ = {name: f"http://user:pass@127.0.0.1:{proxy.port}"}
        (got,) = run(request(server.url), environ=environ)
        assert got.body == b"hello"
        assert proxy.requests[0].startswith(f"POST {server.url} HTTP/1.1".encode())
        assert base64.b64encode(b"user:pass") in proxy.requests[0]


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "all_proxy"])
def test_tls_requests_go_through_a_tunnel(name: str) -> None:
    """The proxy sees the name of the host, and nothing of the request."""
    with RawServer(_hello, tls()) as server, RawServer(forwarding) as proxy:
        environ = {name: f"http://user:pass@127.0.0.1:{proxy.port}"}
        got = run(*[request(server.url)] * 9, environ=environ, ca_file=AUTHORITY)
        assert [one.body for one in got] == [b"hello"] * 9
        assert proxy.requests[0].startswith(f"CONNECT 127.0.0.1:{server.port} ".encode())
        assert KEY.encode() not in b"".join(proxy.requests)
        assert len(proxy.requests) < 9


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_exempt_hosts_are_asked_directly(name: str) -> None:
    """The proxy is not asked, so it does not matter that there is none."""
    with RawServer(_hello) as server, unanswered_port() as port:
        environ = {"HTTP_PROXY": f"http://127.0.0.1:{port}", name: "example.org,127.0.0.1"}
        (got,) = run(request(server.url), environ=environ)
        assert got.body == b"hello"


def test_a_proxy_that_refuses_is_told() -> None:
    """The reason speaks of the proxy, without its credentials."""
    with RawServer(_refusing_proxy) as proxy:
        environ = {"HTTPS_PROXY": f"http://user:pass@127.0.0.1:{proxy.port}"}
        (got,) = run(request("https://api.invalid/v1/responses"), environ=environ)
    assert got.kind == "connect"
    assert got.reason.startswith("the proxy made no connection to api.invalid: ")
    assert "pass" not in got.reason


@pytest.mark.parametrize("value", ["ftp://x", "http://", "http://a b", "https://user:pw@"])
def test_a_proxy_variable_that_is_no_url_is_a_usage_error(value: str) -> None:
    """It names the variable, not its value."""
    with pytest.raises(UsageError, match="HTTPS_PROXY is not the URL of a proxy") as caught:
        read({"HTTPS_PROXY": value})
    assert "pw" not in str(caught.value)


def test_the_rules_of_the_variables() -> None:
    """Lower case goes first, a scheme may be left out, CGI's HTTP_PROXY is a header's value."""
    found = read({"http_proxy": "one:1", "HTTP_PROXY": "two:2", "NO_PROXY": "x", "https_proxy": ""})
    assert (found.http_proxy, found.https_proxy, found.no_proxy) == ("http://one:1", "", "x")
    assert read({"HTTP_PROXY": "two:2", "REQUEST_METHOD": "GET"}).http_proxy == ""
    assert "one:1" not in repr(found)


@pytest.mark.parametrize("variable", [False, True])
def test_an_own_certificate_authority_is_trusted(variable: bool, tmp_path: Path) -> None:
    """By parameter or SSL_CERT_FILE, wherever in the file it stands."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(Path(OTHER).read_text() + "\n# ours\n" + Path(AUTHORITY).read_text())
    with RawServer(_hello, tls()) as server:
        if variable:
            (got,) = run(request(server.url), environ={"SSL_CERT_FILE": str(bundle)})
        else:
            (got,) = run(request(server.url), ca_file=str(bundle))
    assert got.body == b"hello"


@pytest.mark.parametrize("ca_file", ["", OTHER])
def test_an_unknown_authority_is_not_trusted(ca_file: str) -> None:
    """The reason says what to do, and the request was not sent."""
    with RawServer(_hello, tls()) as server:
        (got,) = run(request(server.url), ca_file=ca_file)
        assert got.kind == "connect"
        assert got.reason.startswith(f"TLS with 127.0.0.1:{server.port} failed: ")
        assert "SSL_CERT_FILE" in got.reason
        assert server.requests == []


def test_a_certificate_for_another_name_is_not_trusted() -> None:
    """The authority is known, but the name is not in the certificate."""
    with RawServer(_hello, tls()) as server:

        def elsewhere(connection: Connection) -> None:
            connection.request()
            with socket.create_connection(("127.0.0.1", server.port)) as onward:
                connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
                pipe(connection.sock, onward)

        with RawServer(elsewhere) as proxy:
            environ = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}"}
            right, wrong = run(
                request("https://localhost/"),
                request("https://api.test/"),
                environ=environ,
                ca_file=AUTHORITY,
            )
        assert (right.body, right.kind) == (b"hello", "")
        assert wrong.kind == "connect"
        assert wrong.reason.startswith("TLS with api.test failed: ")
        assert len(server.requests) == 1


def test_a_server_without_tls_is_told() -> None:
    """https to a port that speaks plain HTTP."""
    with RawServer(lambda connection: connection.send(b"HTTP/1.1 400 Bad\r\n\r\n")) as server:
        (got,) = run(request(server.url.replace("http:", "https:")))
    assert got.kind == "connect"
    assert got.reason.startswith("TLS with ")


def test_a_ca_file_that_can_not_be_used_is_a_usage_error(tmp_path: Path) -> None:
    """Missing, or no PEM: the message names the file and where its name came from."""
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    with pytest.raises(UsageError, match="SSL_CERT_FILE can't be read: /does/not/exist"):
        read({"SSL_CERT_FILE": "/does/not/exist"})
    with pytest.raises(UsageError, match=r"the CA file holds no PEM certificate: .*empty\.pem"):
        read({}, str(empty))


def test_a_damaged_certificate_is_a_usage_error(tmp_path: Path) -> None:
    """PEM armour around nonsense."""
    damaged = tmp_path / "damaged.pem"
    damaged.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(UsageError, match="certificate authorities can't be used"):
        run(request("https://127.0.0.1:1/"), ca_file=str(damaged))


def test_the_test_certificates_are_valid() -> None:
    """Python's own TLS trusts the server by the authority: a failure above is not theirs."""
    with RawServer(_hello, tls()) as server:
        context = ssl.create_default_context(cafile=AUTHORITY)
        with (
            socket.create_connection(("127.0.0.1", server.port)) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            assert secure.version()
