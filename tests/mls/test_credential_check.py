"""The application judges credentials through a callback, among them chains of certificates (RFC 9420 §5.3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from heliograph.mls.credential import Credential, CredentialType
from heliograph.mls.errors import ValidationError
from heliograph.mls.extension import ExternalSender, ExternalSenders
from heliograph.mls.group import LeafChanges
from heliograph.mls.key_package import KeyPackageBundle, create_key_package
from heliograph.mls.leaf_node import Capabilities
from heliograph.mls.membership import create_group, join, join_external
from heliograph.mls.proposal import Add, GroupContextExtensions
from heliograph.mls.suite import Random, SignatureKeyPair, cipher_suite
from tests.mls.company import LIFETIME, NOW_S, Company

# The verifier of `cryptography` takes the curves of suite 2, and not yet Ed25519.
SUITE = cipher_suite(2)
CURVE = ec.SECP256R1()
BOTH_KINDS = Capabilities(cipher_suites=(2,), credentials=(CredentialType.BASIC, CredentialType.X509))
VALID_FROM = datetime.fromtimestamp(NOW_S, UTC) - timedelta(days=1)


class Authority:
    """A certificate authority of a school, with one intermediate."""

    def __init__(self) -> None:
        self.root_key, self.key = ec.generate_private_key(CURVE), ec.generate_private_key(CURVE)
        root_name, name = _name("school root"), _name("school devices")
        self.root = self._certificate(
            root_name, root_name, self.root_key.public_key(), self.root_key, is_authority=True
        )
        self.middle = self._certificate(name, root_name, self.key.public_key(), self.root_key, is_authority=True)

    def credential(self, name: str, signature_key: bytes) -> Credential:
        """Certify a device's key; the chain goes up to the intermediate."""
        public = ec.EllipticCurvePublicKey.from_encoded_point(CURVE, signature_key)
        leaf = self._certificate(_name(name), self.middle.subject, public, self.key, is_authority=False)
        return Credential.x509((leaf.public_bytes(Encoding.DER), self.middle.public_bytes(Encoding.DER)))

    def check(self, credential: Credential, _signature_key: bytes) -> None:
        """Accept what this authority has certified, and nothing else."""
        if credential.credential_type != CredentialType.X509:
            raise ValidationError("only certified devices may be here")
        leaf, *between = map(x509.load_der_x509_certificate, credential.certificates)
        policy = PolicyBuilder().store(Store([self.root])).time(datetime.fromtimestamp(NOW_S, UTC))
        plain = ExtensionPolicy.permit_all()  # no web server's names and usages, only who may certify whom
        authorities = plain.require_present(x509.BasicConstraints, Criticality.CRITICAL, None)
        policy = policy.extension_policies(ca_policy=authorities, ee_policy=plain)
        try:
            policy.build_client_verifier().verify(leaf, between)
        except VerificationError as error:
            raise ValidationError("the certificate does not lead to the school's root") from error

    @staticmethod
    def _certificate(
        subject: x509.Name,
        issuer: x509.Name,
        public_key: ec.EllipticCurvePublicKey,
        issuer_key: ec.EllipticCurvePrivateKey,
        *,
        is_authority: bool,
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder(issuer, subject, public_key, x509.random_serial_number())
        builder = builder.not_valid_before(VALID_FROM).not_valid_after(VALID_FROM + timedelta(days=30))
        builder = builder.add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        return builder.sign(issuer_key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


@dataclass
class Device:
    """A device with a certified key."""

    keys: SignatureKeyPair
    credential: Credential
    random: Random

    @classmethod
    def of(cls, authority: Authority, name: str, random: Random) -> "Device":
        keys = SUITE.generate_signature_key(random)
        return cls(keys, authority.credential(name, keys.public), random)

    def bundle(self) -> KeyPackageBundle:
        return create_key_package(
            SUITE,
            self.credential,
            self.keys.private,
            lifetime=LIFETIME,
            capabilities=BOTH_KINDS,
            random=self.random,
        )


@pytest.fixture(scope="module")
def school() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def stranger() -> Authority:
    return Authority()


def class_of(devices: Sequence[Device], random: Random) -> Company:
    """Return a company of one certified founder, who is called as its first device."""
    company = Company("founder", random=random, suite_id=2, capabilities=BOTH_KINDS)
    first = devices[0]
    company["founder"].held = create_group(
        SUITE,
        b"class 7b",
        first.credential,
        first.keys.private,
        lifetime=LIFETIME,
        capabilities=BOTH_KINDS,
        random=random,
    )
    return company


@pytest.mark.rule("RFC 9420 §5.3.1")
def test_certified_devices_meet_in_a_group_whose_members_all_lead_to_one_root(school: Authority, seeded_random: Random):
    first, second = (Device.of(school, name, seeded_random) for name in ("tablet", "phone"))
    founder = class_of([first], seeded_random)["founder"]
    bundle = second.bundle()
    pending = founder.commit([Add(bundle.key_package)])
    assert pending.welcome is not None
    joined = join(
        pending.welcome,
        pending.ratchet_tree,
        bundle,
        second.keys.private,
        now_s=NOW_S,
        check_credential=school.check,
    )
    assert joined.epoch_authenticator == pending.group.epoch_authenticator


@pytest.mark.rule("RFC 9420 §5.3.1", "asked-on-joining")
@pytest.mark.rule("RFC 9420 §7.3", "credential-accepted")
def test_a_joiner_leaves_a_group_where_another_authority_has_certified_someone(
    school: Authority, stranger: Authority, seeded_random: Random
):
    first, second = Device.of(stranger, "tablet", seeded_random), Device.of(school, "phone", seeded_random)
    founder = class_of([first], seeded_random)["founder"]
    bundle = second.bundle()
    pending = founder.commit([Add(bundle.key_package)])
    assert pending.welcome is not None
    with pytest.raises(ValidationError, match="does not lead to the school's root"):
        join(
            pending.welcome,
            pending.ratchet_tree,
            bundle,
            second.keys.private,
            now_s=NOW_S,
            check_credential=school.check,
        )
    third = Device.of(school, "laptop", seeded_random)
    with pytest.raises(ValidationError, match="does not lead to the school's root"):
        join_external(
            pending.group_info,
            pending.ratchet_tree,
            third.credential,
            third.keys.private,
            capabilities=BOTH_KINDS,
            random=seeded_random,
            now_s=NOW_S,
            check_credential=school.check,
        )


def certified_company(school: Authority, random: Random) -> Company:
    """Return ada and ben, whose credentials the school has certified by updates of their leaves."""
    company = Company("ada", "ben", random=random, suite_id=2, capabilities=BOTH_KINDS)
    for person in company.everyone:
        credential = school.credential(person.name, person.signature_key.public)
        pending = person.commit(changes=LeafChanges(credential=credential))
        company.accept(person, pending)
    return company


@pytest.mark.rule("RFC 9420 §5.3.1", "asked-on-change")
@pytest.mark.rule("RFC 9420 §7.3", "credential-accepted")
def test_a_commit_or_proposal_that_brings_in_a_stranger_is_refused_and_changes_nothing(
    school: Authority, stranger: Authority, seeded_random: Random
):
    company = certified_company(school, seeded_random)
    ada, ben = company["ada"], company["ben"]
    addition = Add(Device.of(stranger, "spy", seeded_random).bundle().key_package)
    changed = LeafChanges(credential=stranger.credential("ada", ada.signature_key.public))
    outsider = ExternalSender(
        stranger.root_key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
        Credential.basic(b"an outsider"),
    )
    context = GroupContextExtensions((ExternalSenders((outsider,)).to_extension(),))
    for message in (
        ada.commit([addition]).commit,
        ada.commit(changes=changed).commit,
        ada.commit([context]).commit,
        replace(ada).propose(addition),
        ada.group.update_leaf(changed, random=seeded_random, now_s=NOW_S)[1],
        replace(ada).propose(context),
    ):
        before = ben.group.rows()
        with pytest.raises(ValidationError):
            ben.receive(message, check_credential=school.check)
        assert ben.group.rows() == before


@pytest.mark.rule("RFC 9420 §5.3.1")
def test_a_commit_among_certified_devices_passes_the_check(school: Authority, seeded_random: Random):
    company = certified_company(school, seeded_random)
    ada, ben = company["ada"], company["ben"]
    addition = Add(Device.of(school, "a new tablet", seeded_random).bundle().key_package)
    pending = ada.commit([addition])
    ben.receive(pending.commit, check_credential=school.check)
    assert ben.group.epoch_authenticator == pending.group.epoch_authenticator


def test_application_data_asks_for_no_check(school: Authority, seeded_random: Random):
    company = certified_company(school, seeded_random)

    def never(_credential: Credential, _signature_key: bytes) -> None:
        raise AssertionError("a credential was checked")

    company["ben"].receive(company["ada"].seal(b"hello"), check_credential=never)


@pytest.mark.rule("RFC 9420 §5.3", "certificate-key")
def test_an_external_sender_is_listed_with_the_key_that_its_certificate_holds(school: Authority, seeded_random: Random):
    ada = Company("ada", random=seeded_random, suite_id=2, capabilities=BOTH_KINDS)["ada"]
    keys = SUITE.generate_signature_key(seeded_random)
    other = SUITE.generate_signature_key(seeded_random)
    wrong = ExternalSender(other.public, school.credential("a moderator", keys.public))
    right = replace(wrong, signature_key=keys.public)
    with pytest.raises(ValidationError, match="another key"):
        ada.commit([GroupContextExtensions((ExternalSenders((wrong,)).to_extension(),))])
    ada.commit([GroupContextExtensions((ExternalSenders((right,)).to_extension(),))])
