"""`heliograph serve`: run a server until it is told to stop.

It prints the address, and while no administrator exists the one-time invitation for the first. Everything else it
has to say goes to its log, on standard error.
"""

import asyncio
import errno
import ipaddress
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from heliograph.cli.exit_codes import ExitCode
from heliograph.cli.failure import CommandError
from heliograph.cli.output import AsJson, Output
from heliograph.cli.store_path import server_data
from heliograph.server.config import Config, Proxy, ProxyError, Registration, parse_proxy

HELP = "Run a server; its data lie in one folder."

MAX_PORT = 65535


def serve_command(
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="The folder of the server's data.")] = None,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT")] = "127.0.0.1:8470",
    domain: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The server's name in every id; fixed at the first start (localhost)."),
    ] = None,
    registration: Annotated[
        str, typer.Option(metavar="invitation|open", help="Who may found an account.")
    ] = "invitation",
    limits: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A TOML file that overrides limits; see `heliograph admin limits`."),
    ] = None,
    origin: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="A browser origin that may call, besides the server's own.")
    ] = None,
    checkpoint_interval_s: Annotated[
        int, typer.Option(min=1, max=3600, help="How often the log of decisions is signed.")
    ] = 60,
    metrics_port: Annotated[
        int | None, typer.Option(min=1, max=MAX_PORT, help="Serve Prometheus metrics on this loopback port.")
    ] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="A proxy with TLS stands in front: other hosts may connect.")
    ] = False,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="A proxy whose X-Forwarded-For is believed; may be given again."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check what was asked for, then serve."""
    host, port = parse_listen(listen, behind_proxy=behind_proxy)
    config = Config(
        data=server_data(data),
        host=host,
        port=port,
        domain=domain,
        registration=_registration(registration),
        limits_file=limits,
        checkpoint_interval_s=checkpoint_interval_s,
        origins=tuple(origin or ()),
        trusted_proxies=_proxies(trusted_proxy or ()),
        metrics_port=metrics_port,
    )
    _serve(config, Output(as_json=as_json))


def parse_listen(listen: str, *, behind_proxy: bool) -> tuple[str, int]:
    """Return host and port; an address that other machines reach needs a proxy with TLS in front.

    Raises:
        CommandError: it is no HOST:PORT, or it would show sessions and posts in clear to the network.
    """
    host, separator, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > MAX_PORT:
        raise CommandError(ExitCode.USAGE, f"--listen {listen}: not an address and a port, such as 127.0.0.1:8470")
    if not behind_proxy and not _is_loopback(host):
        raise CommandError(
            ExitCode.USAGE,
            f"--listen {listen} can be reached from other machines, and this server speaks no TLS itself. "
            "Put a proxy with TLS in front and say --behind-proxy, or listen on 127.0.0.1.",
        )
    return host, int(port)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _proxies(texts: Sequence[str]) -> tuple[Proxy, ...]:
    try:
        return tuple(map(parse_proxy, texts))
    except ProxyError as error:
        raise CommandError(ExitCode.USAGE, f"--trusted-proxy {error}") from None


def _registration(word: str) -> Registration:
    if word in ("invitation", "open"):
        return word
    raise CommandError(ExitCode.USAGE, f"--registration {word}: say invitation or open")


def _serve(config: Config, output: Output) -> None:
    from heliograph.server.app import Announcement, serve
    from heliograph.server.logs import configure_logs

    def announce(announcement: Announcement) -> None:
        invitation = announcement.first_invitation
        lines = [f"Heliograph listens on {announcement.url}"]
        if invitation is not None:
            lines.append(f"Invitation for the first administrator (works once): {invitation}")
        output.tell("listening", "\n".join(lines), url=announcement.url, first_invitation=invitation)

    configure_logs()
    with _refusals_become_exit_codes(config):
        if sys.platform == "win32":
            asyncio.run(serve(config, announce))
        else:
            import uvloop

            uvloop.run(serve(config, announce))


@contextmanager
def _refusals_become_exit_codes(config: Config) -> Generator[None]:
    from heliograph.server.data_directory import DataDirectoryBusyError, DataDirectoryError
    from heliograph.server.db.schema import DatabaseRefusedError
    from heliograph.server.limits import LimitsError
    from heliograph.server.secrets import SecretsError

    try:
        yield
    except DataDirectoryBusyError as error:
        raise CommandError(ExitCode.BUSY, str(error)) from None
    except (DataDirectoryError, LimitsError) as error:
        raise CommandError(ExitCode.USAGE, str(error)) from None
    except (DatabaseRefusedError, SecretsError) as error:
        raise CommandError(ExitCode.REFUSED, str(error)) from None
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES):
            place = f"{config.host}:{config.port}"
            raise CommandError(ExitCode.BUSY, f"--listen {place}: {os.strerror(error.errno).lower()}") from None
        raise CommandError(ExitCode.FAILED, str(error)) from None
