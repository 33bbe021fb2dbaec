"""What npm installs for the peer: exact versions, known by hash, from wherever the machine's npm gets its packages."""

import json
import re
from typing import Any

import pytest

from tests.interop.peer import FOLDER


def packages() -> dict[str, dict[str, Any]]:
    return json.loads((FOLDER / "package-lock.json").read_text("utf-8"))["packages"]


def test_every_node_package_is_locked_by_its_hash():
    locked = {name: package for name, package in packages().items() if name}
    assert "node_modules/ts-mls" in locked
    for package in locked.values():
        assert package["integrity"].startswith("sha512-")


def test_the_lock_file_names_no_registry():
    assert not [name for name, package in packages().items() if "resolved" in package]
    assert "omit-lockfile-registry-resolved=true" in (FOLDER / ".npmrc").read_text("utf-8")


def test_what_the_peer_asks_for_is_pinned_and_locked_at_that_version():
    asked: dict[str, str] = json.loads((FOLDER / "package.json").read_text("utf-8"))["dependencies"]
    for name, version in asked.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+(-rc\.\d+)?", version)
        assert packages()[f"node_modules/{name}"]["version"] == version


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.mjs")), ids=lambda file: file.name)
def test_the_peers_own_files_keep_to_the_house_s_line_length(file: Any):
    assert max(map(len, file.read_text("utf-8").splitlines())) <= 120
