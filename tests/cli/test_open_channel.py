import pytest

from heliograph.cli.exit_codes import ExitCode
from tests.cli.served import Town, town

__all__ = ["town"]


@pytest.fixture(scope="module")
def channel(town: Town) -> Town:
    """Vera's channel, which Fred follows."""
    for handle in ("vera", "fred"):
        town.newcomer(handle)
    town.json("vera", "channel", "create", "bridge_news", "Bridge news", "--language", "en").one()
    town.json("fred", "channel", "follow", "bridge_news").one()
    return town


def test_a_post_is_read_with_an_account_without_one_and_by_followers(channel: Town) -> None:
    published = channel.json("vera", "channel", "post", "bridge_news", "The bridge is open.").one()
    read = channel.json("fred", "channel", "read", "bridge_news").lines
    visitor = channel.json("nobody", "channel", "read", "bridge_news", "--server", channel.url).lines
    told = [line for line in channel.json("fred", "receive").lines if line["type"] == "post"]

    assert (read[-1]["post"], read[-1]["body"], read[-1]["verified"]) == (published["seq"], "The bridge is open.", True)
    assert visitor == read
    assert [(line["post"], line["body"]) for line in told] == [(published["seq"], "The bridge is open.")]


def test_a_visitor_needs_no_home(channel: Town) -> None:
    channel.run("nobody", "channel", "show", "bridge_news", "--server", channel.url)
    assert not (channel.home("nobody") / "store.sqlite").exists()


def test_an_edit_shows_the_new_words_under_the_same_number(channel: Town) -> None:
    number = channel.json("vera", "channel", "post", "bridge_news", given="It opens at nine.\n").one()["seq"]
    channel.json("vera", "channel", "edit", f"bridge_news/{number}", "It opens at ten.").one()
    read = channel.json("fred", "channel", "read", "bridge_news").lines
    assert [(one["body"], one["version"] > one["post"]) for one in read if one["post"] == number] == [
        ("It opens at ten.", True)
    ]


def test_a_deleted_post_leaves_a_tombstone(channel: Town) -> None:
    number = channel.json("vera", "channel", "post", "bridge_news", "Wrong channel.").one()["seq"]
    channel.json("vera", "channel", "delete", f"bridge_news/{number}").one()
    read = channel.json("fred", "channel", "read", "bridge_news").lines
    assert [(one["body"], one["removed_by"]) for one in read if one["post"] == number] == [("", "author")]


def test_an_editor_may_post_and_a_reader_may_not(channel: Town) -> None:
    refused = channel.run("fred", "channel", "post", "bridge_news", "Me too!")
    channel.json("vera", "channel", "role", "bridge_news", "fred", "editor").one()
    allowed = channel.run("fred", "channel", "post", "bridge_news", "Me too!")
    channel.json("vera", "channel", "role", "bridge_news", "fred", "none").one()
    assert (refused.code, allowed.code) == (ExitCode.REFUSED, ExitCode.OK)


def test_who_unfollows_hears_no_more(channel: Town) -> None:
    channel.newcomer("una")
    channel.json("una", "channel", "follow", "bridge_news").one()
    channel.json("una", "channel", "unfollow", "bridge_news").one()
    channel.json("vera", "channel", "post", "bridge_news", "Not for Una.").one()
    assert channel.json("una", "receive").lines == []


def test_the_directory_lists_the_channel_and_the_own_list_what_is_followed(channel: Town) -> None:
    directory = channel.json("nobody", "channel", "list", "--all", "--server", channel.url).lines
    own = channel.json("fred", "channel", "list").lines
    assert [one["handle"] for one in directory] == [one["handle"] for one in own] == ["bridge_news"]


def test_a_channel_that_nobody_has_opened_is_not_found(channel: Town) -> None:
    assert channel.run("fred", "channel", "read", "no_such_channel").code == ExitCode.NOT_FOUND


def test_a_person_is_no_channel(channel: Town) -> None:
    refused = channel.run("fred", "channel", "read", "vera")
    assert refused.code == ExitCode.REFUSED
    assert "is a person" in refused.err
