// What the operations of a group cost with ts-mls: the same story that `mls_story.py` plays with our own library.
//
//     node mls_peer.mjs <folder with node_modules> '{"suite": 1, "size": 100, "rounds": 5}'
//
// Every operation goes from bytes to bytes and is timed alone; the best of its rounds counts. One JSON object comes
// out: the milliseconds of each operation, and the heap that one member's state takes.

import { createRequire } from "node:module"
import { resolve as absolute } from "node:path"
import { pathToFileURL } from "node:url"

const folder = process.argv[2]
const { suite: suiteId, size, rounds } = JSON.parse(process.argv[3])
const { resolve } = createRequire(absolute(folder, "package.json"))
const load = (name) => import(pathToFileURL(resolve(name)))
const mls = await load("ts-mls")

const cipherSuite = suiteId === 0xf04e ? await hybridSuite() : await mls.getCiphersuiteImpl(suiteName(suiteId))
const context = { cipherSuite, authService: mls.unsafeTestingAuthenticationService }
const capabilities = { versions: [1], ciphersuites: [suiteId], extensions: [], proposals: [], credentials: [1] }
const best = {}

async function timed(operation, act) {
  const started = performance.now()
  const result = await act()
  const took = performance.now() - started
  best[operation] = Math.min(best[operation] ?? Infinity, took)
  return result
}

const framed = (wireformat, body) =>
  mls.encode(mls.mlsMessageEncoder, { version: mls.protocolVersions.mls10, wireformat, ...body })
const unframed = (bytes) => mls.decode(mls.mlsMessageDecoder, bytes)

// --- people ------------------------------------------------------------------------------------------------------

async function newcomer(number) {
  const credential = { credentialType: 1, identity: new TextEncoder().encode(`member ${number}`) }
  const made = await mls.generateKeyPackage({ credential, capabilities, cipherSuite })
  return { ...made, bytes: framed(mls.wireformats.mls_key_package, { keyPackage: made.publicPackage }) }
}

const create = (founder) =>
  mls.createGroup({
    context,
    groupId: new TextEncoder().encode("the group"),
    keyPackage: founder.publicPackage,
    privateKeyPackage: founder.privatePackage,
  })

async function addAll(state, packages) {
  const extraProposals = packages.map((bytes) => ({
    proposalType: mls.defaultProposalTypes.add,
    add: { keyPackage: unframed(bytes).keyPackage },
  }))
  const { newState, welcome, commit } = await mls.createCommit({
    context,
    state,
    extraProposals,
    wireAsPublicMessage: true,
  })
  mls.encode(mls.mlsMessageEncoder, commit)
  return { state: newState, welcome: mls.encode(mls.mlsMessageEncoder, welcome) }
}

// ts-mls takes the tree as the value that another state holds; there is no public decoder for one out of band.
const join = (added, person) =>
  mls.joinGroup({
    context,
    welcome: unframed(added.welcome).welcome,
    keyPackage: person.publicPackage,
    privateKeys: person.privatePackage,
    ratchetTree: added.state.ratchetTree,
  })

async function commit(state) {
  const made = await mls.createCommit({ context, state, wireAsPublicMessage: true })
  return { state: made.newState, message: mls.encode(mls.mlsMessageEncoder, made.commit) }
}

const receive = async (state, message) =>
  (await mls.processMessage({ context, state, message: unframed(message) })).newState

async function seal(state, data) {
  const made = await mls.createApplicationMessage({ context, state, message: data })
  return { state: made.newState, message: mls.encode(mls.mlsMessageEncoder, made.message) }
}

// --- the story ---------------------------------------------------------------------------------------------------

const people = []
for (let number = 0; number < size; number++) people.push(await newcomer(number))
const packages = people.slice(1).map((person) => person.bytes)
const last = people[size - 1]

let founded, added
for (let round = 0; round < rounds; round++) founded = await timed("create", () => create(people[0]))
for (let round = 0; round < Math.min(rounds, 2); round++) {
  added = await timed("add all", () => addAll(founded, packages))
}

for (let round = 0; round < Math.min(rounds, 2); round++) {
  const receiver = await timed("join", () => join(added, last))
  const cold = await timed("commit cold", () => commit(added.state))
  await timed("process cold", () => receive(receiver, cold.message))
}
const heap = await heapOfOne()

let group = added.state
let receiver = await join(added, last)
const followers = []
for (let leaf = floorPower(size - 1); leaf >= 1; leaf >>= 1) {
  followers.push(leaf === size - 1 ? undefined : await join(added, people[leaf]))
}
for (let turn = 0; turn < followers.length; turn++) {
  const isReceiver = followers[turn] === undefined
  const made = await commit(isReceiver ? receiver : followers[turn])
  group = await receive(group, made.message)
  receiver = isReceiver ? made.state : await receive(receiver, made.message)
  for (let other = turn + 1; other < followers.length; other++) {
    if (followers[other] !== undefined) followers[other] = await receive(followers[other], made.message)
  }
}
for (let round = 0; round < rounds; round++) {
  const made = await timed("commit warm", () => commit(group))
  receiver = await timed("process warm", () => receive(receiver, made.message))
  group = made.state
}
const data = new Uint8Array(100)
for (let round = 0; round < 4 * rounds; round++) {
  const made = await timed("encrypt", () => seal(group, data))
  group = made.state
  receiver = await timed("decrypt", () => receive(receiver, made.message))
}
console.log(JSON.stringify({ took_ms: best, state_bytes: heap }))

// --- the rest ----------------------------------------------------------------------------------------------------

async function heapOfOne() {
  if (globalThis.gc === undefined) return 0
  const before = await settledHeap()
  const copy = mls.decode(mls.clientStateDecoder, mls.encode(mls.clientStateEncoder, added.state))
  const after = await settledHeap()
  return copy.groupContext.epoch === added.state.groupContext.epoch ? after - before : 0
}

async function settledHeap() {
  for (let turn = 0; turn < 3; turn++) {
    globalThis.gc()
    await new Promise((done) => setTimeout(done, 10)) // array buffers are freed a little later
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

function floorPower(number) {
  let power = 1
  while (2 * power <= number) power *= 2
  return number < 1 ? 0 : power
}

function suiteName(id) {
  return Object.keys(mls.ciphersuites).find((name) => mls.ciphersuites[name] === id)
}

// Suite 0xF04E is none of ts-mls's own: hash, KDF and AEAD of suite 7, the signature of suite 1, and as KEM the X-Wing
// of @hpke, whose DeriveKeyPair is replaced by SHAKE256.LabeledDerive. Source: draft-ietf-hpke-pq.
async function hybridSuite() {
  const { Aes256Gcm, CipherSuite, HkdfSha384 } = await load("@hpke/core")
  const { XWing } = await load("@hpke/hybridkem-x-wing")
  const { shake256 } = await load("@noble/hashes/sha3.js")
  const seven = await mls.getCiphersuiteImpl(suiteName(7))
  const one = await mls.getCiphersuiteImpl(suiteName(1))
  const kem = new XWing()
  const suite = new CipherSuite({ kem, kdf: new HkdfSha384(), aead: new Aes256Gcm() })
  const label = new TextEncoder().encode("DeriveKeyPair")
  const prefix = Uint8Array.from([...new TextEncoder().encode("HPKE-v1KEM"), 0x64, 0x7a, 0, label.length])
  const bytes = (buffer) => new Uint8Array(buffer)
  const buffer = (view) => view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength)
  const opening = (privateKey, enc, info) => ({ recipientKey: privateKey, enc: buffer(enc), info: buffer(info) })
  const hpke = {
    ...seven.hpke, // whose encryptAead and decryptAead, with AES-256-GCM, stay
    keyLength: 32,
    nonceLength: 12,
    seal: async (publicKey, plaintext, info, aad = new Uint8Array()) => {
      const made = await suite.seal({ recipientPublicKey: publicKey, info: buffer(info) }, buffer(plaintext), buffer(aad))
      return { ct: bytes(made.ct), enc: bytes(made.enc) }
    },
    open: async (privateKey, enc, ciphertext, info, aad = new Uint8Array()) =>
      bytes(await suite.open(opening(privateKey, enc, info), buffer(ciphertext), buffer(aad))),
    exportSecret: async (publicKey, exporterContext, length, info) => {
      const sender = await suite.createSenderContext({ recipientPublicKey: publicKey, info: buffer(info) })
      return { enc: bytes(sender.enc), secret: bytes(await sender.export(buffer(exporterContext), length)) }
    },
    importSecret: async (privateKey, exporterContext, enc, length, info) => {
      const recipient = await suite.createRecipientContext(opening(privateKey, enc, info))
      return bytes(await recipient.export(buffer(exporterContext), length))
    },
    importPrivateKey: (key) => kem.deserializePrivateKey(buffer(key)),
    importPublicKey: (key) => kem.deserializePublicKey(buffer(key)),
    exportPrivateKey: async (key) => bytes(await kem.serializePrivateKey(key)),
    exportPublicKey: async (key) => bytes(await kem.serializePublicKey(key)),
    deriveKeyPair: async (ikm) => {
      const input = Uint8Array.from([...ikm, ...prefix, ...label, 0, 32])
      return kem.generateKeyPairDerand(Uint8Array.from(shake256(input, { dkLen: 32 })))
    },
    generateKeyPair: () => kem.generateKeyPair(),
  }
  return { ...seven, signature: one.signature, hpke, id: suiteId }
}
