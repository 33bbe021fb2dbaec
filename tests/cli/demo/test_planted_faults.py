import socket
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest

from heliograph.cli.demo import act_five_proof, story
from heliograph.cli.demo.act_five_proof import Proof
from heliograph.cli.demo.narrator import Narrator, WrongOutcome
from heliograph.cli.demo.server_process import ServerProcess
from heliograph.cli.output import Output
from tests.tlog.test_verify import VKEY, bundle

GENUINE = Proof(bundle(), VKEY, "dc1", "c1")
OTHER_KEY = "another.example/decisions+00000000+AQID"
PLANTED = [
    replace(GENUINE, bundle=bundle(index=3)),
    replace(GENUINE, subject="c2"),
    replace(GENUINE, decision="dc2"),
    replace(GENUINE, log_key=OTHER_KEY),
]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[ServerProcess]:
    """A server with the first post of the story on its disk, as the search for private words expects it."""
    running = await ServerProcess.start(tmp_path)
    (running.data / "public").write_text(story.POSTS[0].body, encoding="utf-8")
    yield running
    await running.stop()


async def _play(server: ServerProcess, folder: Path, proof: Proof = GENUINE) -> None:
    folder.mkdir(exist_ok=True)
    await act_five_proof.play(Narrator(Output(as_json=True)), folder, server, proof, ["I bring the oil."])


async def test_the_last_act_fails_where_the_proof_is_of_something_else(server: ServerProcess, tmp_path: Path) -> None:
    for number, planted in enumerate(PLANTED):
        with pytest.raises(WrongOutcome, match=r"verifies the decision's proof|It is decision"):
            await _play(server, tmp_path / str(number), planted)


async def test_the_last_act_fails_where_a_private_word_lies_on_the_server_s_disk(
    server: ServerProcess, tmp_path: Path
) -> None:
    (server.data / "leak").write_text("… I bring the oil. …", encoding="utf-8")
    with pytest.raises(WrongOutcome, match="no word that was said"):
        await _play(server, tmp_path / "leak")

    (server.data / "leak").unlink()
    (server.data / "public").unlink()
    with pytest.raises(WrongOutcome, match="the search is no good"):
        await _play(server, tmp_path / "no search")


async def test_the_last_act_fails_while_somebody_still_answers(server: ServerProcess, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        server.url = f"http://127.0.0.1:{somebody.getsockname()[1]}"
        with pytest.raises(WrongOutcome, match="nobody answers"):
            await _play(server, tmp_path / "answers")
