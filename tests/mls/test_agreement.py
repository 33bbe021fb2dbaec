"""What one member accepts all accept, the server too, and a newcomer could join there: else the group has split.

The commits are drawn by chance (`mutations.py`). Whatever is refused by a rule that needs no secret must be refused by
everyone, and what is accepted must lead everyone to the same place.
"""

from collections import Counter

import pytest

from heliograph.mls.errors import MLSError
from heliograph.mls.framing import MLSMessage
from heliograph.mls.group import Group, Received, ReceivedCommit
from heliograph.mls.public_group import PublicCommit, PublicGroup
from heliograph.mls.ratchet_tree import RatchetTree
from tests.mls.company import NOW_S, Person
from tests.mls.mutations import PSKS, Forged, Stage

SEEDS = range(120)
COMMITS_EACH = 8
ONLY_MEMBERS_SEE = ("confirmation_tag of the commit", "a pre-shared key that this epoch needs is missing")


def judge(stage: Stage, person: Person, message: bytes) -> tuple[Group, Received] | MLSError:
    group = person.group if stage.chance.random() < 0.7 else Group.load(person.group.rows())
    try:
        return group.receive(message, now_s=NOW_S, psks=PSKS)
    except MLSError as error:
        return error


def judge_as_server(group: PublicGroup, message: bytes) -> tuple[PublicGroup, PublicCommit] | MLSError:
    try:
        return group.receive_commit(message, now_s=NOW_S)
    except MLSError as error:
        return error


def agree(stage: Stage, forged: Forged) -> str:
    """Hold that all say the same of a commit; return what they said."""
    verdicts = [judge(stage, one, forged.message) for one in stage.company.everyone if one is not forged.maker]
    errors = [one for one in verdicts if isinstance(one, MLSError)]
    moved = [one for one in verdicts if not isinstance(one, MLSError)]
    server = judge_as_server(stage.server, forged.message)
    said = {(type(error), str(error)) for error in errors}
    if errors:
        needs_secret = all(any(words in str(one) for words in ONLY_MEMBERS_SEE) for one in errors)
        # Only one who is put out moves on where others refuse: it has no secret to check the tag with.
        assert not [group for group, _ in moved if group.is_active], said
        assert needs_secret or (not moved and isinstance(server, MLSError) and len(said) == 1), said
        return str(errors[0])
    assert not isinstance(server, MLSError), str(server)
    after, summary = server
    check_places(after, summary, moved)
    return "accepted"


def check_places(after: PublicGroup, summary: PublicCommit, moved: list[tuple[Group, Received]]) -> None:
    following = [group for group, _ in moved if group.is_active]
    for group, received in moved:
        assert isinstance(received, ReceivedCommit)
        told = (received.added, received.removed, received.updated)
        assert told == (summary.added, summary.removed, summary.updated)
        assert not group.is_active or group.group_context == after.group_context
        assert not group.is_active or group.tree == after.tree
    assert len({group.epoch_authenticator for group in following}) <= 1
    # What a newcomer would fetch and check, and what the server would save and load.
    RatchetTree.decode(after.tree.encode()).validate(after.suite, after.group_context, now_s=NOW_S)
    assert PublicGroup.decode(after.encode()).group_context == after.group_context


@pytest.mark.rule("RFC 9420 §12.2", "all-agree")
@pytest.mark.rule("RFC 9420 §12.4.2", "valid-list")
@pytest.mark.parametrize("part", range(4))
def test_members_and_server_say_the_same_of_commits_drawn_by_chance(part: int):
    said = Counter[str]()
    for seed in SEEDS[part::4]:
        stage = Stage(seed)
        for _ in range(COMMITS_EACH):
            forged = stage.forge()
            if forged is not None and len(stage.company.people) > 1:
                MLSMessage.decode(forged.message)
                said[agree(stage, forged)] += 1
    # The draw must hit many rules, and must not always be refused.
    assert said["accepted"] >= 10
    assert len(said) >= 15
