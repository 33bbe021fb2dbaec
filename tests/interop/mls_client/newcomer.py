"""One who has a key package and waits for a Welcome, as a value; and what every leaf of ours says of itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from heliograph.mls.credential import Credential
from heliograph.mls.framing import MLSMessage
from heliograph.mls.key_package import KeyPackageBundle, create_key_package
from heliograph.mls.leaf_node import Capabilities, Lifetime
from heliograph.mls.membership import join
from heliograph.mls.proposal import ResumptionPSKUsage
from heliograph.mls.suite import CipherSuite, Random, Secret
from tests.interop.mls_client.member import POLICY, Member

CIPHER_SUITES = (1, 2, 3, 5, 7, 0xF04E)

# All extensions and proposals of RFC 9420 are understood without being listed, and scripts use no others.
CAPABILITIES = Capabilities(cipher_suites=CIPHER_SUITES)

DAY_S = 86_400


def lifetime(now_s: int) -> Lifetime:
    """Return a lifetime of 30 days that began a day ago, for runners and peers whose clocks differ."""
    return Lifetime(now_s - DAY_S, now_s + 29 * DAY_S)


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A key package with its private keys, and the external pre-shared keys that were given to its owner."""

    bundle: KeyPackageBundle
    signature_private_key: Secret = field(repr=False)
    psks: Mapping[bytes, bytes] = field(default_factory=dict[bytes, bytes], repr=False)

    @classmethod
    def create(cls, suite: CipherSuite, credential: Credential, random: Random, now_s: int) -> "Newcomer":
        """Return a newcomer with fresh keys."""
        signature_private_key = suite.generate_signature_key(random).private
        bundle = create_key_package(
            suite,
            credential,
            signature_private_key,
            lifetime=lifetime(now_s),
            capabilities=CAPABILITIES,
            random=random,
        )
        return cls(bundle, signature_private_key)

    @property
    def key_package(self) -> bytes:
        """Return the key package to hand out, an MLSMessage."""
        return MLSMessage(self.bundle.key_package).encode()

    def private_keys(self) -> Mapping[str, object]:
        """Return the private keys, which the protocol asks for so that a run can be kept as a test vector."""
        return {
            "init_priv": self.bundle.init_private_key,
            "encryption_priv": self.bundle.encryption_private_key,
            "signature_priv": self.signature_private_key,
        }

    def with_psk(self, psk_id: bytes, psk: bytes) -> "Newcomer":
        """Return the newcomer with one more external key."""
        return replace(self, psks={**self.psks, psk_id: psk})

    def join(
        self,
        welcome: bytes,
        ratchet_tree: bytes,
        *,
        is_private: bool,
        now_s: int,
        predecessor: Member | None = None,
        succession: ResumptionPSKUsage | None = None,
    ) -> Member:
        """Return the member that a Welcome makes of the newcomer; raises MLSError.

        ratchet_tree: empty if the Welcome carries it; predecessor: a membership that the group follows upon,
        and succession how.
        """
        psks = {**(predecessor.psks if predecessor else {}), **self.psks}
        group = join(
            welcome,
            ratchet_tree or None,
            self.bundle,
            self.signature_private_key,
            now_s=now_s,
            psks=psks,
            predecessor=predecessor.group if predecessor else None,
            succession=succession,
            lifetime_limit_s=POLICY.lifetime_limit_s,
        )
        return Member(group, is_private, psks)
