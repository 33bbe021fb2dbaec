"""Serve one MLS client to the working group's test runner: python -m tests.interop.mls_client --port 50051"""

import argparse
import contextlib
import secrets
import time

from tests.interop.mls_client.client import Client
from tests.interop.mls_client.server import start


def main() -> None:
    """Serve until the process is ended; the first line that is printed tells the port."""
    parser = argparse.ArgumentParser(prog="python -m tests.interop.mls_client", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, default=50051, help="the port, or 0 for any that is free")
    arguments = parser.parse_args()
    client = Client(secrets.token_bytes, lambda: int(time.time()))
    server, port = start(client, arguments.host, arguments.port)
    print(f"MLSClient listens on {arguments.host}:{port}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.wait_for_termination()


if __name__ == "__main__":
    main()
