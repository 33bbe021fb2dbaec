"""Random lives of a room: whatever happens in whatever order, all who are in it agree, and read exactly their time."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from heliograph.client.room_commits import Wanted
from heliograph.client.told import ProtocolFault
from heliograph.wire.events import AnyEvent
from heliograph.wire.ids import RoomId
from tests.client.hub import Hub, Phone, welcome_event

STEPS = 40


class Life:
    """A room of one owner and others who come and go, and what each of them should have read."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.hub = Hub()
        self.owner, *self.others = (self.hub.phone(handle) for handle in ("alice", "bob", "carol", "dave", "erin"))
        self.room: RoomId = self.hub.room_of(self.owner, self.others[0])
        self.inside: list[Phone] = [self.owner, self.others[0]]
        self.expected: dict[Phone, list[str]] = {phone: [] for phone in (self.owner, *self.others)}
        self._texts = 0

    def deliver(self, seq: int, event: AnyEvent, readers: list[Phone]) -> None:
        """Apply an entry at all readers; now and then it comes twice."""
        for phone in readers:
            phone.apply(self.room, seq, event)
            if self.chance.random() < 0.2:
                phone.apply(self.room, seq, event)

    def say(self) -> None:
        """Somebody says something."""
        self._texts += 1
        sender, text = self.chance.choice(self.inside), f"text {self._texts}"
        seq, event = self.hub.say(sender, self.room, text)
        readers = [phone for phone in self.inside if phone is not sender]
        self.deliver(seq, event, readers)
        sender.memory.rooms[self.room] = replace(sender.memory.rooms[self.room], seq=seq)
        for phone in readers:
            self.expected[phone].append(text)

    def come(self) -> None:
        """The owner brings somebody in."""
        outside = [phone for phone in self.others if phone not in self.inside]
        if not outside:
            return
        guest = self.chance.choice(outside)
        wanted = Wanted(add=[guest.key_package().key_package], join=[guest.identity.account])
        pending = self.hub.build(self.owner, self.room, wanted)
        seq, event = self.hub.commit(pending)
        self.deliver(seq, event, self.inside)
        guest.apply(guest.identity.device, seq, welcome_event(self.room, pending, seq, event))
        self.inside.append(guest)

    def go(self) -> None:
        """The owner puts somebody out."""
        guests = self.inside[1:]
        if not guests:
            return
        guest = self.chance.choice(guests)
        seq, event = self.hub.commit(self.hub.build(self.owner, self.room, Wanted(leave=[guest.identity.account])))
        self.deliver(seq, event, self.inside)
        self.inside.remove(guest)
        assert self.room not in guest.memory.rooms

    def race(self) -> None:
        """Two build a commit on the same epoch; one wins, the other drops its own."""
        rivals = self.chance.sample(self.inside, min(2, len(self.inside)))
        built = [self.hub.build(phone, self.room, Wanted()) for phone in rivals]
        seq, event = self.hub.commit(built[0])
        self.deliver(seq, event, self.inside)
        assert all(self.room not in phone.memory.pendings for phone in rivals)

    def step(self) -> None:
        """Let one thing happen, and see that all agree."""
        acts: list[Callable[[], None]] = [self.say, self.say, self.say, self.come, self.go, self.race]
        self.chance.choice(acts)()
        rooms = [phone.memory.rooms[self.room] for phone in self.inside]
        assert len({room.group.epoch_authenticator for room in rooms}) == 1
        assert len({room.seq for room in rooms}) == 1
        assert {phone.identity.account for phone in self.inside} == rooms[0].policy.present()


@pytest.mark.parametrize("seed", range(8))
def test_all_who_are_in_a_room_agree_and_read_exactly_their_time(seed: int) -> None:
    life = Life(seed)

    for _ in range(STEPS):
        life.step()

    for phone, expected in life.expected.items():
        read = sorted(phone.memory.messages.values(), key=lambda message: message.seq)
        assert [message.text for message in read] == expected
        assert not [told for told in phone.told if isinstance(told, ProtocolFault)]
