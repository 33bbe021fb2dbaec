"""What refuses to start, and says why."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from heliograph.server.app import open_server
from heliograph.server.config import Config
from heliograph.server.data_directory import DataDirectoryError
from heliograph.server.limits import Bucket, Limits, LimitsError, Rate, load_limits
from heliograph.server.secrets import SecretsError
from heliograph.wire.accounts import Empty, ServerInfo
from tests.world import world


def limits_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "limits.toml"
    path.write_text(text)
    return path


def test_a_limits_file_overrides_what_it_names(tmp_path: Path) -> None:
    limits = load_limits(
        limits_file(tmp_path, "sockets = 7\n[rates.send]\nburst = 1000\n[rates.key-packages]\nper_s = 9\n")
    )
    assert (limits.sockets, limits.rates.send, limits.rates.read) == (7, Rate(1000, 2), Limits().rates.read)
    assert limits.rates.key_packages == Rate(Limits().rates.key_packages.burst, 9)


@pytest.mark.bad_input(125)
@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("sockets = 1\nsokets = 2\n", ":2: .*sokets"),
        ("[rates.send]\nburst = 1\nper_s = 1\n\n[rates.sand]\nburst = 1\nper_s = 1\n", ":5: .*sand"),
        ("[rates.send]\nburst = 1\nextra = 1\n", ":3: .*extra"),
        ("\nsockets = -1\n", ":2: .*sockets"),
        ("sockets = 0\n", ":1: .*sockets"),
        ('sockets = "many"\n', ":1: .*sockets"),
        ("sockets = 1e30\n", ":1: .*sockets"),
        ("[rates.send]\nper_s = 0\n", ":2: .*per_s"),
        ("sockets = \n", "line 1"),
    ],
)
def test_a_limits_file_with_a_mistake_is_refused_by_key_and_line(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(LimitsError, match=named):
        load_limits(limits_file(tmp_path, text))


def test_a_limits_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LimitsError, match="No such file"):
        load_limits(tmp_path / "nowhere.toml")


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(Rate(3, 0.5), now_ms=0)
    assert [bucket.take(0) for _ in range(4)] == [0, 0, 0, 2]
    assert bucket.take(1000) == 1
    assert bucket.take(2000) == 0
    assert bucket.take(0) >= 1, "a clock that goes back gives nothing"


@pytest.mark.bad_input(130)
async def test_a_second_server_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        with pytest.raises(DataDirectoryError, match="another server"):
            async with open_server(Config(data=tmp_path / "data", port=0)):
                pass
        await w.register("alice")


@pytest.mark.bad_input(126)
async def test_keys_are_their_owners_alone_and_never_made_twice(tmp_path: Path) -> None:
    async with world(tmp_path):
        pass
    key = tmp_path / "data" / "secrets" / "hub-signature-key"
    assert key.stat().st_mode & 0o777 == 0o600
    spoilt = {"others may read it": lambda: key.chmod(0o644), "not 0": lambda: key.write_bytes(b"")}
    kept = key.read_bytes()
    for sentence, spoil in spoilt.items():
        spoil()
        with pytest.raises(SecretsError, match=sentence):
            async with world(tmp_path):
                pass
        key.write_bytes(kept)
        key.chmod(0o600)
    key.unlink()
    with pytest.raises(SecretsError, match="restore it"):
        async with world(tmp_path):
            pass


@pytest.mark.bad_input(129)
async def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file stands here")
    with pytest.raises(DataDirectoryError):
        async with world(tmp_path):
            pass


async def test_the_domain_is_fixed_at_the_first_start(tmp_path: Path) -> None:
    async with world(tmp_path, domain="one.example"):
        pass
    with pytest.raises(DataDirectoryError, match="cannot become"):
        async with world(tmp_path, domain="two.example"):
            pass
    async with world(tmp_path) as w:
        told: ServerInfo = await w.call("get_server", Empty())
        assert told.domain == "one.example"


SERVE = """
import asyncio, sys
from pathlib import Path
from heliograph.server.app import serve
from heliograph.server.config import Config
config = Config(data=Path(sys.argv[1]), port=0)
asyncio.run(serve(config, lambda told: print(told.url, flush=True)))
"""


@pytest.mark.bad_input(134)
async def test_too_few_open_files_are_refused(tmp_path: Path) -> None:
    program = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))\n{SERVE}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, str(tmp_path / "data")),
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode != 0
    assert b"ulimit -n" in errors


async def test_sigterm_drains_and_ends_well(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVE, str(tmp_path / "data")),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert process.stdout is not None
    assert (await process.stdout.readline()).startswith(b"http://127.0.0.1:")
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        assert await process.wait() == 0
    assert not (tmp_path / "data" / "heliograph.db-wal").exists()


async def test_metrics_stand_on_a_listener_of_their_own(tmp_path: Path, unused_tcp_port: int) -> None:
    async with world(tmp_path, metrics_port=unused_tcp_port) as w:
        async with w.http.get(w.url + "/metrics") as response:
            assert response.status == 404
        async with w.http.get(f"http://127.0.0.1:{unused_tcp_port}/metrics") as response:
            text = await response.text()
    assert 'heliograph_requests_total{operation="other",status="404"} 1.0' in text
