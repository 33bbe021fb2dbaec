"""Groups of two and more: what each member reads, and what nobody else does."""

from heliograph.mls.credential import Credential
from heliograph.mls.group import create_group, join
from heliograph.mls.key_package import create_key_package
from heliograph.mls.leaf_node import Capabilities, Lifetime
from heliograph.mls.proposal import Add
from heliograph.mls.suite import cipher_suite

def test_x(seeded_random, now_s):
    suite = cipher_suite(1)
    lt = Lifetime(now_s-3600, now_s+86400)
    caps = Capabilities()
    a = suite.generate_signature_key(seeded_random)
    b = suite.generate_signature_key(seeded_random)
    g = create_group(suite, b"g", Credential.basic(b"alice"), a.private, lifetime=lt, capabilities=caps, random=seeded_random)
    kp = create_key_package(suite, Credential.basic(b"bob"), b.private, lifetime=lt, capabilities=caps, random=seeded_random)
    p = g.commit([Add(kp.key_package)], random=seeded_random, now_s=now_s)
    g = p.group
    h = join(p.welcome, p.ratchet_tree, kp, b.private, now_s=now_s)
    assert h.epoch_authenticator == g.epoch_authenticator
    from heliograph.mls.group import Group
    g = Group.load(g.rows()); h = Group.load(h.rows())
    g, m = g.seal(b"hi", random=seeded_random)
    h, r = h.receive(m, now_s=now_s)
    assert r.application_data == b"hi"
    p = h.commit(random=seeded_random, now_s=now_s)
    g, r = g.receive(p.commit, now_s=now_s)
    assert g.epoch_authenticator == p.group.epoch_authenticator
    p.group.seal(b"x", random=seeded_random)
