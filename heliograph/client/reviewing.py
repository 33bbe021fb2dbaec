"""The client's face for reviewers and administrators: the desk's key, cases, verdicts, decisions, roles."""

from collections.abc import Sequence

import msgspec

from heliograph.client import decisions
from heliograph.client.changes import MetaSaved
from heliograph.client.decisions import DeskKey, JudgedItem, JudgedReport, judge_report, mac_question, read_desk_key
from heliograph.client.errors import NotPossible
from heliograph.client.running import Running
from heliograph.wire.accounts import (
    AccountInfo,
    AccountRole,
    CreateInvitation,
    Empty,
    Invitation,
    SetRole,
)
from heliograph.wire.channels import LanguageTag
from heliograph.wire.ids import CaseId, DecisionId, RoomId
from heliograph.wire.moderation import (
    AttachEvidence,
    CaseReport,
    CaseRequest,
    Cases,
    CaseSummary,
    CaseView,
    Decide,
    Decided,
    DecisionProof,
    DecisionRequest,
    EvidenceView,
    FrankChecked,
    Ground,
    ListCases,
    Measure,
    PublishDeskKey,
    StatementOfReasons,
)


class Reviewing(Running):
    """Moderation, for those whose role allows it, and statements for those whom it concerns."""

    # ------------------------------------------------------------------------------------------ desk key

    async def create_desk_key(self) -> None:
        """Make a desk key, keep it here, and publish its public half: from now on reports are sealed to it."""
        await self._use_desk_key(decisions.create_desk_key(self._device.world.random))

    def export_desk_key(self) -> str:
        """Return the desk key as one line of text, for another reviewer's device. It is a secret."""
        return self._desk_key().text()

    async def import_desk_key(self, text: str) -> None:
        """Keep a desk key that another reviewer has exported.

        Raises:
            NotPossible: it is not the key that this server's reports are sealed to.
        """
        key = read_desk_key(text)
        await self._device.refresh_server()
        if self._device.server.desk_key != key.public:
            raise NotPossible("this is not the key that this server's reports are sealed to")
        await self._keep_desk_key(key)

    async def _use_desk_key(self, key: DeskKey) -> None:
        await self._keep_desk_key(key)
        await self._call("publish_desk_key", PublishDeskKey(key.public), Empty)

    async def _keep_desk_key(self, key: DeskKey) -> None:
        async with self._device.turn:
            await self._device.save((MetaSaved("desk_key", key.text().encode()),))

    def _desk_key(self) -> DeskKey:
        saved = self._store.meta("desk_key")
        if saved is None:
            raise NotPossible("this device has no desk key: import it from another reviewer, or create one")
        return read_desk_key(saved.decode())

    # --------------------------------------------------------------------------------------------- cases

    async def cases(self, state: str = "open", *, limit: int = 50, after: str = "") -> list[CaseSummary]:
        """Page through the queue: `open`, `decided` or `all`."""
        request = msgspec.convert({"state": state, "limit": limit, "after": after}, ListCases)
        return (await self._call("list_cases", request, Cases)).cases

    async def case(self, case: str) -> CaseView:
        """Open a case."""
        return await self._call("get_case", CaseRequest(CaseId(case)), CaseView)

    async def open_report(self, view: CaseView, report: CaseReport) -> JudgedReport:
        """Open a sealed report and judge its items: by public keys first, then the hub says whether MACs are its own.

        Raises:
            NotPossible: the report is not sealed, or not about a room.
            MLSError: it does not open under this desk key.
        """
        if report.sealed is None or view.subject.kind != "room":
            raise NotPossible("this report is not sealed: it can be read as it is")
        room = RoomId(view.subject.ref)
        device = self._device
        judged = judge_report(
            report.sealed, self._desk_key(), device.identity.domain, room, device.server.hub_signature_key
        )
        items = [await self._ask_hub(item, room) for item in judged.items]
        return decisions.with_items(judged, items)

    async def _ask_hub(self, item: JudgedItem, room: RoomId) -> JudgedItem:
        if item.check.verdict.value != "proven":
            return item
        question = mac_question(item.check, self.identity.domain, room)
        if question is None:
            return item
        answer = await self._call("check_frank", question, FrankChecked)
        return JudgedItem(item.check.with_mac(answer.result), item.item)

    async def attach_evidence(self, case: str, item: JudgedItem) -> EvidenceView:
        """Attach a disclosed message to a case; the server verifies it again.

        Raises:
            Problem: `invalid-evidence`, the item is forged.
        """
        return await self._call("attach_evidence", AttachEvidence(CaseId(case), item.item), EvidenceView)

    # ----------------------------------------------------------------------------------------- decisions

    async def decide(
        self,
        case: str,
        measures: Sequence[Measure],
        *,
        ground: Ground,
        ground_reference: str,
        category: str,
        reason: str,
        facts: str,
        keywords: Sequence[str] = (),
        language: LanguageTag = "en",
    ) -> Decided:
        """Decide a case: in one transaction the measures are in force, stated, logged and told."""
        request = Decide(
            case=CaseId(case),
            measures=list(measures),
            ground=ground,
            ground_reference=ground_reference,
            category=category,
            reason=reason,
            facts=facts,
            keywords=tuple(keywords),
            language=language,
        )
        return await self._call("decide", request, Decided)

    async def statement(self, decision: str) -> StatementOfReasons:
        """Return the statement of reasons of a decision that affects this account."""
        return await self._call("get_statement", DecisionRequest(DecisionId(decision)), StatementOfReasons)

    async def decision_proof(self, decision: str) -> str:
        """Return the bundle that proves, offline, that a decision stands in the log."""
        return (await self._call("get_decision_proof", DecisionRequest(DecisionId(decision)), DecisionProof)).bundle

    # ------------------------------------------------------------------------------------ administration

    async def create_invitation(self, role: AccountRole = "member", expires_in_s: int = 7 * 86400) -> str:
        """Return a single-use invitation; roles above member need an administrator."""
        request = CreateInvitation(role, expires_in_s)
        return (await self._call("create_invitation", request, Invitation)).invitation

    async def set_role(self, who: str, role: AccountRole) -> AccountInfo:
        """Give an account a role on this server."""
        account = await self._device.resolve(who)
        return await self._call("set_role", SetRole(account, role), AccountInfo)
