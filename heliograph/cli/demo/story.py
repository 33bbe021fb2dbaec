"""What the people of the demo say: a village, its lamps and its bridge.

Five friends plan an evening by lamplight in a private room. A public channel tells, in twelve languages, that the
bridge is closed; three of its posts try to get at people's money.
"""

from typing import Final, NamedTuple

from heliograph.wire.moderation import Ground

ROOM_NAME: Final = "Lamp night"
CHANNEL_HANDLE: Final = "bridge_news"
CHANNEL_TITLE: Final = "Bridge news"
CHANNEL_DESCRIPTION: Final = "All about the bridge, in twelve languages."


class Line(NamedTuple):
    """One public post: its language, its words, and whether it is one of those that are reported."""

    language: str
    body: str
    is_fraud: bool = False


POSTS: Final = (
    Line("de", "Die Brücke ist am Samstag gesperrt. Die Fähre kostet nichts."),
    Line("fr", "Le pont est fermé samedi. Le bac est gratuit."),
    Line("tr", "Köprü cumartesi günü kapalı. Feribot ücretsiz."),
    Line("ru", "Мост в субботу закрыт. Паром бесплатный."),
    Line("en", "Everyone gets the bridge toll back. Send me your card number and PIN today.", is_fraud=True),
    Line("ar", "الجسر مغلق يوم السبت. العبّارة مجانية."),
    Line("fa", "پل روز شنبه بسته است. کشتی رایگان است."),
    Line("ur", "پل ہفتے کے دن بند ہے۔ کشتی مفت ہے۔"),
    Line("es", "Todos recuperan el peaje del puente. Envíeme hoy su número de tarjeta y su PIN.", is_fraud=True),
    Line("id", "Jembatan ditutup pada hari Sabtu. Feri gratis."),
    Line("zh", "星期六大桥关闭。渡轮免费。"),
    Line("hi", "सबको पुल का टोल वापस मिलेगा। आज ही मुझे अपना कार्ड नंबर और पिन भेजें।", is_fraud=True),
)


class Chapter(NamedTuple):
    """Lines of the room between two changes of who is in it, and who does not read them."""

    lines: tuple[tuple[str, str], ...]
    absent: tuple[str, ...] = ()


BEFORE_ERIN: Final = Chapter(
    (
        ("alice", "Welcome. Lamps on the hill, Saturday at nine?"),
        ("bob", "I bring the oil."),
        ("carol_phone", "And I the glass, says my new phone."),
    ),
    absent=("erin",),
)
WITH_ERIN: Final = Chapter(
    (
        ("alice_tablet", "Erin, you are in: you see this and what follows."),
        ("erin", "Thank you! I missed what was said before, as it should be."),
    )
)
BOB_AWAY: Final = Chapter(
    (
        ("alice", "Bob has left the room for a while, so we plan his surprise."),
        ("carol", "Cake at ten, before the last lamp."),
    ),
    absent=("bob",),
)
DANA_DEAD: Final = Chapter(
    tuple(
        (("alice", "carol", "erin")[number % 3], f"Lamp {number} of 12 hangs on the hill.") for number in range(1, 13)
    ),
    absent=("bob",),
)
BOB_BACK: Final = Chapter(
    (
        ("bob", "Back again. What did I miss?"),
        ("alice", "Nothing that you would want to know."),
    )
)
DANA_SPEAKS: Final = Chapter((("dana", "My device died while you hung the lamps. Now I have all twelve."),))
THREAT: Final = Chapter((("erin", "Carol, pay me by nine or your lamps will burn with your house."),))

# Bob claims that Alice wrote the second, with the stamp of the first. Both have the same length in bytes, so that
# nothing but the words differs.
TRUE_WORDS: Final = "Nothing that you would want to know."
FORGED_WORDS: Final = "Nothing. You are a liar and a thief."

THREAT_CATEGORY: Final = "STATEMENT_CATEGORY_CYBER_VIOLENCE"
THREAT_KEYWORD: Final = "KEYWORD_CYBER_BULLYING_INTIMIDATION"
FRAUD_CATEGORY: Final = "STATEMENT_CATEGORY_SCAMS_AND_FRAUD"
FRAUD_KEYWORD: Final = "KEYWORD_PHISHING"
FRAUD_EXPLANATION: Final = "This post asks people for the number and PIN of their bank card."

GROUND: Final[Ground] = "incompatible-content"
GROUND_REFERENCE: Final = "Terms of use, section 4: nobody may ask others for the secrets of their bank cards."
REASON: Final = "The channel asked readers for the numbers and PINs of their bank cards."
FACTS: Final = (
    "Three posts, in English, Spanish and Hindi, promise a refund of the bridge toll and ask for card number and PIN. "
    "The bridge has no toll. The posts stood between true news about the bridge, which made them believable."
)
