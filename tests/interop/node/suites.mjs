// The cipher suites of the peer: those of ts-mls, and 0xF04E, which is a custom suite to ts-mls.
//
// 0xF04E is ML-KEM-768 with X25519 (KEM 0x647a), HKDF-SHA384, AES-256-GCM, SHA-384 and Ed25519. X-Wing is the same KEM
// but for one function: DeriveKeyPair is SHAKE256.LabeledDerive of draft-ietf-hpke-pq, not SHAKE256 of the input alone.

import { Aes256Gcm, CipherSuite, HkdfSha384 } from "@hpke/core"
import { XWing } from "@hpke/hybridkem-x-wing"
import { p256 } from "@noble/curves/nist.js"
import { shake256 } from "@noble/hashes/sha3.js"
import { ciphersuites, getCiphersuiteImpl } from "ts-mls"
import { makeGenericHpke } from "./node_modules/ts-mls/dist/src/crypto/implementation/hpke.js"

const P256 = 2
const HYBRID = 0xf04e
const SEED_BYTES = 32
const LABEL = new TextEncoder().encode("DeriveKeyPair")
const DERIVE = Uint8Array.of(
  ...new TextEncoder().encode("HPKE-v1KEM"), 0x64, 0x7a, 0, LABEL.length, ...LABEL, 0, SEED_BYTES,
)

class Mlkem768X25519 extends XWing {
  deriveKeyPair(ikm) {
    const labeled = shake256.create({ dkLen: SEED_BYTES }).update(new Uint8Array(ikm)).update(DERIVE)
    return this.generateKeyPairDerand(labeled.digest())
  }
}

const made = new Map()

export function cipherSuite(id) {
  if (!made.has(id)) made.set(id, make(id))
  return made.get(id)
}

async function make(id) {
  if (id === HYBRID) return hybrid()
  const name = Object.keys(ciphersuites).find((key) => ciphersuites[key] === id)
  if (name === undefined) throw new Error(`no cipher suite ${id}`)
  const suite = await getCiphersuiteImpl(name)
  if (id !== P256 || process.argv.includes("--as-it-is")) return suite
  return { ...suite, signature: { ...suite.signature, keygen: uncompressed } }
}

// By itself ts-mls makes compressed points, where a public key is an uncompressed one (RFC 9420 §5.1.1).
async function uncompressed() {
  const signKey = p256.utils.randomSecretKey()
  return { signKey, publicKey: p256.getPublicKey(signKey, false) }
}

async function hybrid() {
  const first = await cipherSuite(1)
  const seventh = await cipherSuite(7) // SHA-384, HKDF-SHA384 and AES-256-GCM
  const suite = new CipherSuite({ kem: new Mlkem768X25519(), kdf: new HkdfSha384(), aead: new Aes256Gcm() })
  const aead = { encrypt: seventh.hpke.encryptAead, decrypt: seventh.hpke.decryptAead }
  const hpke = await makeGenericHpke({ kem: "X-Wing" }, aead, suite)
  return { ...seventh, hpke, signature: first.signature, id: HYBRID }
}
