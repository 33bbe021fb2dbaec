"""Posts are believed by their author's signature alone: whoever carries them can change nothing."""

from dataclasses import replace

import pytest

from heliograph.client.channel import build_deletion, build_edit, build_post, verify_deletion, verify_post
from heliograph.client.identity import CredentialError
from heliograph.client.told import PostReceived, PostRemoved, ProtocolFault
from heliograph.wire.channels import PostView, SubmitSigned, Tombstone, decode_post
from heliograph.wire.events import EditEvent, PostEvent, TombstoneEvent
from heliograph.wire.ids import ChannelId, channel_id
from heliograph.wire.problems import Problem
from tests.client.hub import NOW_MS, Hub, Phone


@pytest.fixture
def hub() -> Hub:
    """Return a hub."""
    return Hub()


@pytest.fixture
def alice(hub: Hub) -> Phone:
    """Return the author."""
    return hub.phone("alice")


@pytest.fixture
def bob(hub: Hub) -> Phone:
    """Return a follower."""
    return hub.phone("bob")


@pytest.fixture
def channel(hub: Hub) -> ChannelId:
    """Return a channel."""
    return channel_id(hub.random(16))


def signed_post(hub: Hub, author: Phone, channel: ChannelId, body: str = "The light is on.") -> SubmitSigned:
    """Return a post of an author's."""
    return build_post(author.identity, channel, body, language="en", now_ms=NOW_MS, random=hub.random)


def test_a_follower_hears_a_signed_post(hub: Hub, alice: Phone, bob: Phone, channel: ChannelId) -> None:
    post = signed_post(hub, alice, channel)

    bob.apply(channel, 7, PostEvent(post.signed, post.signature, NOW_MS))

    told = bob.told[-1]
    assert isinstance(told, PostReceived)
    assert (told.body, told.post, told.author) == ("The light is on.", 7, alice.identity.account)


def test_an_edit_is_a_version_of_its_post(hub: Hub, alice: Phone, bob: Phone, channel: ChannelId) -> None:
    before = decode_post(signed_post(hub, alice, channel).signed)
    edit = build_edit(alice.identity, channel, 7, before, "The light is out.", now_ms=NOW_MS, random=hub.random)

    bob.apply(channel, 8, EditEvent(7, edit.signed, edit.signature, NOW_MS))

    told = bob.told[-1]
    assert isinstance(told, PostReceived)
    assert (told.body, told.post, told.version) == ("The light is out.", 7, 8)


def test_words_under_another_signature_are_not_shown(hub: Hub, alice: Phone, bob: Phone, channel: ChannelId) -> None:
    post, other = signed_post(hub, alice, channel), signed_post(hub, alice, channel, "something else")

    bob.apply(channel, 7, PostEvent(post.signed, other.signature, NOW_MS))

    assert isinstance(bob.told[-1], ProtocolFault)
    assert bob.memory.cursors[channel] == 7


def test_a_post_signed_by_another_device_than_it_names_is_refused(
    hub: Hub, alice: Phone, bob: Phone, channel: ChannelId
) -> None:
    post = signed_post(hub, alice, channel)
    view = PostView(7, 7, NOW_MS, post.signed, post.signature)

    with pytest.raises(CredentialError):
        verify_post(channel, view, bob.known)


def test_a_post_is_of_its_channel_alone(hub: Hub, alice: Phone, channel: ChannelId) -> None:
    post = signed_post(hub, alice, channel)
    view = PostView(7, 7, NOW_MS, post.signed, post.signature)

    with pytest.raises(Problem, match="another channel"):
        verify_post(channel_id(bytes(16)), view, alice.known)


def test_an_edit_is_of_its_post_alone(hub: Hub, alice: Phone, channel: ChannelId) -> None:
    before = decode_post(signed_post(hub, alice, channel).signed)
    edit = build_edit(alice.identity, channel, 7, before, "x", now_ms=NOW_MS, random=hub.random)

    with pytest.raises(Problem, match="another post"):
        verify_post(channel, PostView(6, 8, NOW_MS, edit.signed, edit.signature), alice.known)


def test_a_post_outlives_the_device_that_signed_it(hub: Hub, alice: Phone, channel: ChannelId) -> None:
    post = signed_post(hub, alice, channel)
    state = alice.known.state
    gone = replace(alice.known.chain[0], state=replace(state, seq=1, devices=()))
    known = replace(alice.known, chain=(*alice.known.chain, gone))

    verified = verify_post(channel, PostView(7, 7, NOW_MS, post.signed, post.signature), known)

    assert verified.content.body == "The light is on."


def test_a_deletion_needs_its_authors_signature(hub: Hub, alice: Phone, bob: Phone, channel: ChannelId) -> None:
    deletion = build_deletion(alice.identity, channel, 7, now_ms=NOW_MS, random=hub.random)
    tombstone = Tombstone("author", NOW_MS)

    bob.apply(channel, 8, TombstoneEvent(7, tombstone, deletion.signed, deletion.signature))
    assert bob.told[-1] == PostRemoved(channel, 7, "author")

    bob.apply(channel, 9, TombstoneEvent(6, tombstone, deletion.signed, deletion.signature))
    assert isinstance(bob.told[-1], ProtocolFault)
    with pytest.raises(Problem):
        verify_deletion(channel, 7, deletion.signed, bytes(64), alice.known)


def test_a_removal_by_decision_is_told_with_its_reason(bob: Phone, channel: ChannelId) -> None:
    tombstone = Tombstone("moderation", NOW_MS, None, "It calls for violence.")

    bob.apply(channel, 9, TombstoneEvent(7, tombstone))

    assert bob.told[-1] == PostRemoved(channel, 7, "moderation", "It calls for violence.")


@pytest.mark.parametrize("signed", [b"", b"\x80", b"\xff" * 40, b"\x81\xa2of\x01"])
def test_bytes_that_are_no_post_harm_nothing(signed: bytes, bob: Phone, channel: ChannelId) -> None:
    bob.apply(channel, 3, PostEvent(signed, bytes(64), NOW_MS))

    assert isinstance(bob.told[-1], ProtocolFault)
    assert bob.memory.cursors[channel] == 3
