"""Reports, cases, decisions and statements of reasons, as they travel.

Words of the Digital Services Act: a report is a notice (Art. 16), an outcome is a decision with measures, and who
is affected gets a statement of reasons (Art. 17). Categories and keywords are the value lists of the DSA
Transparency Database; here they are patterns, and `server.moderation` holds the lists.
"""

from typing import Annotated, Final, Literal

import msgspec

from heliograph.wire.accounts import SecretText, Wire
from heliograph.wire.channels import LanguageTag
from heliograph.wire.ids import (
    END,
    AccountId,
    CaseIdText,
    ChannelIdText,
    DecisionId,
    DecisionIdText,
    ReportId,
    ReportIdText,
    RoomIdText,
)
from heliograph.wire.rooms import Seq

MAX_SEALED_REPORT_SIZE_BYTES: Final = 1024 * 1024
MAX_EXPLANATION_LENGTH: Final = 5000

MeasureKind = Literal[
    "label",
    "limit-reach",
    "hide-from-search",
    "age-gate",
    "remove-post",
    "block-channel",
    "mute-account",
    "suspend-account",
    "end-account",
]
Ground = Literal["illegal-content", "incompatible-content"]
SubjectKind = Literal["post", "channel", "account", "room"]
Verdict = Literal["proven", "unproven", "forged"]
CaseState = Literal["new", "leased", "decided", "closed"]
Category = Annotated[str, msgspec.Meta(pattern=f"^STATEMENT_CATEGORY_[A-Z_]{{3,64}}{END}")]
Keyword = Annotated[str, msgspec.Meta(pattern=f"^KEYWORD_[A-Z_]{{3,64}}{END}")]
CountryCode = Annotated[str, msgspec.Meta(pattern=f"^[A-Z]{{2}}{END}")]
Explanation = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_EXPLANATION_LENGTH)]

DSA_VISIBILITY: Final[dict[MeasureKind, str]] = {
    "label": "DECISION_VISIBILITY_CONTENT_LABELLED",
    "limit-reach": "DECISION_VISIBILITY_CONTENT_DEMOTED",
    "hide-from-search": "DECISION_VISIBILITY_CONTENT_DEMOTED",
    "age-gate": "DECISION_VISIBILITY_CONTENT_AGE_RESTRICTED",
    "remove-post": "DECISION_VISIBILITY_CONTENT_REMOVED",
    "block-channel": "DECISION_VISIBILITY_CONTENT_DISABLED",
}
DSA_PROVISION: Final[dict[MeasureKind, str]] = {
    "block-channel": "DECISION_PROVISION_PARTIAL_TERMINATION",
    "mute-account": "DECISION_PROVISION_PARTIAL_SUSPENSION",
}
DSA_ACCOUNT: Final[dict[MeasureKind, str]] = {
    "suspend-account": "DECISION_ACCOUNT_SUSPENDED",
    "end-account": "DECISION_ACCOUNT_TERMINATED",
}


class Subject(Wire, frozen=True):
    """What a report or decision is about. `ref` names it: a channel id, `<channel>/<seq>`, an account or a room."""

    kind: SubjectKind
    ref: Annotated[str, msgspec.Meta(max_length=128)]


class ReportPublic(Wire, frozen=True):
    """Report a channel (`post` absent) or a post: who sends it needs no account.

    The four elements of DSA Art. 16(2): the explanation, the exact place, name and e-mail (which may be empty for
    sexual abuse of minors, and for anyone who prefers not to give them), and the statement of good faith.
    """

    channel: ChannelIdText
    category: Category
    explanation: Explanation
    good_faith: bool
    post: Seq | None = None
    keyword: Keyword | None = None
    language: LanguageTag = "en"
    name: Annotated[str, msgspec.Meta(max_length=128)] = ""
    email: Annotated[str, msgspec.Meta(max_length=254)] = ""


class ReportPrivate(Wire, frozen=True):
    """Report messages of a private room: the report sealed to the desk's key, unreadable to the server."""

    room: RoomIdText
    sealed: Annotated[bytes, msgspec.Meta(min_length=48, max_length=MAX_SEALED_REPORT_SIZE_BYTES)]


class ReportReceipt(Wire, frozen=True):
    """The receipt of a report: its id, and a secret with which its sender can ask what became of it."""

    report: ReportIdText
    receipt: str
    received_at_ms: int


class GetReportStatus(Wire, frozen=True):
    """Ask what became of a report."""

    report: ReportIdText
    receipt: SecretText


class ReportStatus(Wire, frozen=True):
    """What became of a report: still open, or decided, with the outcome in words."""

    report: ReportIdText
    state: Literal["received", "attached", "answered"]
    outcome: str = ""
    decision: DecisionId | None = None


class PublishDeskKey(Wire, frozen=True):
    """Publish the X25519 key (32 bytes) that reports of private messages are sealed to."""

    key: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class ListCases(Wire, frozen=True):
    """Page through cases, oldest first."""

    state: Literal["open", "decided", "all"] = "open"
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 50
    after: Annotated[str, msgspec.Meta(max_length=64)] = ""


class CaseSummary(Wire, frozen=True):
    """A line of the queue."""

    case: CaseIdText
    subject: Subject
    state: CaseState
    reports: int
    category: str
    opened_at_ms: int


class Cases(Wire, frozen=True):
    """A page of cases."""

    cases: list[CaseSummary]


class CaseRequest(Wire, frozen=True):
    """Name one case; `after` skips so many of its reports, where they do not fit in one answer."""

    case: CaseIdText
    after: Seq = 0


class CaseReport(Wire, frozen=True):
    """One report of a case as its reviewer sees it; `sealed` where only the desk's key opens it."""

    report: ReportId
    received_at_ms: int
    category: str
    explanation: str
    language: str
    keyword: str | None = None
    reporter: AccountId | None = None
    sealed: bytes | None = None


class EvidenceView(Wire, frozen=True):
    """Evidence that a reviewer attached and the server verified again."""

    sha256: bytes
    verdict: Verdict
    kid: bytes
    room_seq: int
    sender: str
    verifier: str


class CaseEvent(Wire, frozen=True):
    """One thing that happened to a case."""

    at_ms: int
    actor: str
    act: str
    detail: str = ""


class CaseView(Wire, frozen=True):
    """A case whole: the subject as first reported, reports (oldest first; `reports_in_all` tells whether more are to
    be asked for), evidence, decisions and events.

    `snapshot` is the MessagePack of a `PostView` (post) or a `ChannelInfo` (channel), and empty for a room.
    """

    case: CaseIdText
    subject: Subject
    state: CaseState
    opened_at_ms: int
    snapshot: bytes
    reports: list[CaseReport]
    evidence: list[EvidenceView]
    decisions: list[DecisionId]
    events: list[CaseEvent]
    reports_in_all: int = 0


class AttachEvidence(Wire, frozen=True):
    """Attach one disclosed item of a report to a case: the item as the reporter gave it. The server verifies it
    again; an item that proves false is refused (`invalid-evidence`).
    """

    case: CaseIdText
    item: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_SEALED_REPORT_SIZE_BYTES)]


class CheckFrank(Wire, frozen=True):
    """Ask the hub whether a MAC is its own: everything that it was computed over."""

    tag: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    context: Annotated[bytes, msgspec.Meta(min_length=1, max_length=2048)]
    kid: Annotated[bytes, msgspec.Meta(min_length=1, max_length=32)]
    mac: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class FrankChecked(Wire, frozen=True):
    """The hub's answer: the MAC holds, does not, or its key has been deleted."""

    result: Literal["valid", "invalid", "key-deleted"]


class Measure(Wire, frozen=True):
    """One measure: what, where (ISO country codes; empty means everywhere) and until when (absent: indefinite)."""

    kind: MeasureKind
    territory: Annotated[tuple[CountryCode, ...], msgspec.Meta(max_length=60)] = ()
    until_ms: int | None = None


class Decide(Wire, frozen=True):
    """Decide a case. An empty list of measures says that nothing is to be done, and why.

    `reason` is the sentence that the public reads; `facts` are for the affected and hold no personal data.
    """

    case: CaseIdText
    measures: Annotated[list[Measure], msgspec.Meta(max_length=5)]
    ground: Ground
    ground_reference: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    category: Category
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    facts: Annotated[str, msgspec.Meta(min_length=1, max_length=5000)]
    keywords: Annotated[tuple[Keyword, ...], msgspec.Meta(max_length=10)] = ()
    language: LanguageTag = "en"


class Decided(Wire, frozen=True):
    """A decision in force: its id and the index of its leaf in the log of decisions."""

    decision: DecisionIdText
    leaf_index: int
    effective_at_ms: int


class DecisionRequest(Wire, frozen=True):
    """Name one decision."""

    decision: DecisionIdText


class StatementOfReasons(Wire, frozen=True):
    """What the affected person is told (DSA Art. 17), in their language, with the way to object."""

    decision: DecisionIdText
    subject: Subject
    measures: list[Measure]
    ground: Ground
    ground_reference: str
    category: str
    keywords: list[str]
    reason: str
    facts: str
    language: str
    effective_at_ms: int
    automated_detection: bool
    automated_decision: bool
    redress: str
    leaf_index: int
    nonce: bytes


class DecisionProof(Wire, frozen=True):
    """A proof bundle for `heliograph verify`: JSON text that stands alone."""

    decision: DecisionIdText
    bundle: str


class PublicDecision(Wire, frozen=True):
    """What anyone may read of a decision."""

    decision: DecisionIdText
    subject: Subject
    measures: list[Measure]
    reason: str
    effective_at_ms: int
    leaf_index: int
