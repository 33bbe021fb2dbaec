// The commands of the peer. A client plays one member of one group; `clients` holds all of them by number.
//
// A command changes the client's state only when it succeeds. A commit that a client makes waits as `pending` until
// `take_up`: another one may win the epoch.

import * as mls from "ts-mls"
import { signLeafNodeCommit } from "./node_modules/ts-mls/dist/src/leafNode.js"
import { ratchetTreeDecoder, ratchetTreeEncoder } from "./node_modules/ts-mls/dist/src/ratchetTree.js"
import { cipherSuite } from "./suites.mjs"

const hex = (bytes) => Buffer.from(bytes).toString("hex")
const bytes = (text) => {
  if (typeof text !== "string" || !/^([0-9a-f]{2})*$/.test(text)) throw new TypeError("not hexadecimal")
  return Uint8Array.from(Buffer.from(text, "hex"))
}
const optional = (read, value) => (value === undefined || value === null ? undefined : read(value))

const clients = new Map()
let count = 0

function clientOf(command) {
  const client = clients.get(command.client)
  if (client === undefined) throw new Error("no such client")
  return client
}

function stateOf(client) {
  if (client.state === undefined) throw new Error("the client is in no group")
  return client.state
}

const context = (client) => ({
  cipherSuite: client.suite,
  authService: mls.unsafeTestingAuthenticationService,
  externalPsks: client.psks,
})

// --- messages ----------------------------------------------------------------------------------------------------

const write = (message) => hex(mls.encode(mls.mlsMessageEncoder, message))
const framed = (wireformat, body) => write({ version: mls.protocolVersions.mls10, wireformat, ...body })

function read(text, wireformat) {
  const message = mls.decode(mls.mlsMessageDecoder, bytes(text))
  if (message === undefined) throw new mls.CodecError("cannot decode the message")
  if (wireformat !== undefined && message.wireformat !== wireformat) throw new mls.CodecError("another wire format")
  return message
}

function readTree(text) {
  const tree = mls.decode(ratchetTreeDecoder, bytes(text))
  if (tree === undefined) throw new mls.CodecError("cannot decode the tree")
  return tree
}

const readExtensions = (list) =>
  list.map(([extensionType, data]) => ({ extensionType, extensionData: bytes(data) }))

// --- who takes part ----------------------------------------------------------------------------------------------

async function newClient({ suite: suiteId, name, extension_types: extensions }) {
  const suite = await cipherSuite(suiteId)
  const signatureKeyPair = await suite.signature.keygen()
  // As a stranger's client may well have them: with values that mean nothing.
  const capabilities = mls.greaseCapabilities(
    { probabilityPerGreaseValue: 0.2 },
    { versions: [1], ciphersuites: [suiteId], extensions, proposals: [], credentials: [1] },
  )
  const credential = { credentialType: mls.defaultCredentialTypes.basic, identity: bytes(name) }
  const client = { suite, signatureKeyPair, capabilities, credential, psks: {}, packages: [], updates: [] }
  clients.set(++count, client)
  return { client: count, signature_key: hex(signatureKeyPair.publicKey) }
}

// By itself ts-mls puts values that mean nothing also into extensions that the capabilities do not list, where RFC 9420
// §10 forbids them. Here they are listed.
function makePackage({ credential, capabilities, signatureKeyPair, suite }) {
  const meaningless = capabilities.extensions.filter((type) => mls.greaseValues.includes(type))
  const extensions = meaningless.map((extensionType) => ({ extensionType, extensionData: new Uint8Array(3) }))
  return mls.generateKeyPackageWithKey({ credential, capabilities, signatureKeyPair, cipherSuite: suite, extensions })
}

async function keyPackage(command) {
  const client = clientOf(command)
  const made = await makePackage(client)
  client.packages.push(made)
  return framed(mls.wireformats.mls_key_package, { keyPackage: made.publicPackage })
}

function knowPsk(command) {
  clientOf(command).psks[mls.bytesToBase64(bytes(command.psk_id))] = bytes(command.psk)
}

async function createGroup(command) {
  const client = clientOf(command)
  const { publicPackage, privatePackage } = await makePackage(client)
  client.state = await mls.createGroup({
    context: context(client),
    groupId: bytes(command.group_id),
    keyPackage: publicPackage,
    privateKeyPackage: privatePackage,
    extensions: readExtensions(command.extensions),
  })
}

async function join(command) {
  const client = clientOf(command)
  const old = clients.get(command.predecessor)?.state
  const { welcome } = read(command.welcome, mls.wireformats.mls_welcome)
  for (const { publicPackage, privatePackage } of client.packages) {
    const reference = await mls.makeKeyPackageRef(publicPackage, client.suite.hash)
    if (!welcome.secrets.some(({ newMember }) => hex(newMember) === hex(reference))) continue
    client.state = await mls.joinGroup({
      context: context(client),
      welcome,
      keyPackage: publicPackage,
      privateKeys: privatePackage,
      ratchetTree: optional(readTree, command.ratchet_tree),
      resumingFromState: old,
    })
    return
  }
  throw new Error("the Welcome is for none of the client's key packages")
}

async function joinExternal(command) {
  const client = clientOf(command)
  const { groupInfo } = read(command.group_info, mls.wireformats.mls_group_info)
  const { publicPackage, privatePackage } = await makePackage(client)
  const { publicMessage, newState } = await mls.joinGroupExternal({
    context: context(client),
    groupInfo,
    keyPackage: publicPackage,
    privateKeys: privatePackage,
    resync: command.resync,
    tree: optional(readTree, command.ratchet_tree),
    authenticatedData: bytes(command.authenticated_data),
  })
  client.pending = newState
  return { commit: framed(mls.wireformats.mls_public_message, { publicMessage }), ratchet_tree: treeOf(newState) }
}

// An Add that the newcomer itself proposes (new_member_proposal).
async function proposeJoining(command) {
  const client = clientOf(command)
  const { groupInfo } = read(command.group_info, mls.wireformats.mls_group_info)
  const made = await makePackage(client)
  client.packages.push(made)
  return write(await mls.proposeAddExternal(groupInfo, made.publicPackage, made.privatePackage, client.suite))
}

// The founding commit of a group that follows upon that of another client, `predecessor`, of the same person.
async function foundSuccessor(command) {
  const client = clientOf(command)
  const state = stateOf(clients.get(command.predecessor) ?? {})
  const { publicPackage, privatePackage } = await makePackage(client)
  const shared = {
    context: context(client),
    state,
    keyPackage: publicPackage,
    privateKeyPackage: privatePackage,
    memberKeyPackages: command.key_packages.map((text) => read(text, mls.wireformats.mls_key_package).keyPackage),
  }
  const terms = state.groupActiveState.reinit
  const made =
    terms === undefined
      ? await mls.branchGroup({ ...shared, newGroupId: bytes(command.group_id) })
      : await mls.reinitCreateNewGroup({ ...shared, ...terms, ...suiteNamed(terms.cipherSuite) })
  client.pending = made.newState
  return { commit: write(made.commit), welcome: write(made.welcome), ratchet_tree: treeOf(made.newState) }
}

// ts-mls names cipher suites and knows those of its own list only; any name leads to ours.
const suiteNamed = (id) => ({
  cipherSuite: Object.keys(mls.ciphersuites)[0],
  provider: { getCiphersuiteImpl: () => cipherSuite(id) },
})

// --- proposals and commits ---------------------------------------------------------------------------------------

const PROPOSALS = {
  add: ({ key_package: message }) => {
    const { keyPackage } = read(message, mls.wireformats.mls_key_package)
    return { proposalType: mls.defaultProposalTypes.add, add: { keyPackage } }
  },
  remove: ({ removed }) => ({ proposalType: mls.defaultProposalTypes.remove, remove: { removed } }),
  psk: ({ psk_id: id, psk_nonce: nonce }) => ({
    proposalType: mls.defaultProposalTypes.psk,
    psk: { preSharedKeyId: { psktype: mls.pskTypes.external, pskId: bytes(id), pskNonce: bytes(nonce) } },
  }),
  resumption_psk: ({ psk_group_id: group, psk_epoch: epoch, psk_nonce: nonce }) => ({
    proposalType: mls.defaultProposalTypes.psk,
    psk: {
      preSharedKeyId: {
        psktype: mls.pskTypes.resumption,
        usage: mls.resumptionPSKUsages.application,
        pskGroupId: bytes(group),
        pskEpoch: BigInt(epoch),
        pskNonce: bytes(nonce),
      },
    },
  }),
  reinit: ({ group_id: group, suite, extensions }) => ({
    proposalType: mls.defaultProposalTypes.reinit,
    reinit: {
      groupId: bytes(group),
      version: mls.protocolVersions.mls10,
      cipherSuite: suite,
      extensions: readExtensions(extensions),
    },
  }),
  group_context_extensions: ({ extensions }) => ({
    proposalType: mls.defaultProposalTypes.group_context_extensions,
    groupContextExtensions: { extensions: readExtensions(extensions) },
  }),
}

function readProposal(proposal) {
  const make = PROPOSALS[proposal.type]
  if (make === undefined) throw new TypeError("no such proposal")
  return make(proposal)
}

async function propose(command) {
  const client = clientOf(command)
  const state = stateOf(client)
  const isUpdate = command.proposal.type === "update"
  const update = isUpdate ? await freshLeaf(client) : undefined
  const result = await mls.createProposal({
    context: context(client),
    state,
    proposal: update?.proposal ?? readProposal(command.proposal),
    wireAsPublicMessage: command.public,
    authenticatedData: bytes(command.authenticated_data),
  })
  if (update !== undefined) {
    const before = new Set(Object.keys(state.unappliedProposals))
    const reference = Object.keys(result.newState.unappliedProposals).find((key) => !before.has(key))
    client.updates.push({ ...update, reference })
  }
  client.state = result.newState
  return write(result.message)
}

// ts-mls has no function that makes an Update; its application makes the leaf and keeps the key.
async function freshLeaf({ suite, state, signatureKeyPair }) {
  const leaf = mls.getOwnLeafNode(state)
  const keys = await suite.hpke.generateKeyPair()
  const unsigned = {
    leafNodeSource: mls.leafNodeSources.update,
    hpkePublicKey: await suite.hpke.exportPublicKey(keys.publicKey),
    extensions: leaf.extensions,
    capabilities: leaf.capabilities,
    credential: leaf.credential,
    signaturePublicKey: leaf.signaturePublicKey,
    groupId: state.groupContext.groupId,
    leafIndex: state.privatePath.leafIndex,
  }
  // It signs whatever source the leaf names.
  const leafNode = await signLeafNodeCommit(unsigned, signatureKeyPair.signKey, suite.signature)
  const privateKey = await suite.hpke.exportPrivateKey(keys.privateKey)
  return { proposal: { proposalType: mls.defaultProposalTypes.update, update: { leafNode } }, leafNode, privateKey }
}

async function commit(command) {
  const client = clientOf(command)
  const state = stateOf(client)
  // All that waits is committed, and ts-mls itself does not leave out what its own member may not commit.
  const own = new Set(client.updates.map(({ reference }) => reference))
  const left = Object.entries(state.unappliedProposals).filter(([key]) => command.by_reference && !own.has(key))
  const result = await mls.createCommit({
    context: context(client),
    state: { ...state, unappliedProposals: Object.fromEntries(left) },
    resumingFromState: state, // where it looks for the resumption keys of its own group too
    wireAsPublicMessage: command.public,
    extraProposals: command.proposals.map(readProposal),
    ratchetTreeExtension: command.with_tree,
    authenticatedData: bytes(command.authenticated_data),
  })
  client.pending = result.newState
  return {
    commit: write(result.commit),
    welcome: result.welcome === undefined ? null : write(result.welcome),
    ratchet_tree: treeOf(result.newState),
  }
}

function takeUp(command) {
  const client = clientOf(command)
  if (client.pending === undefined) throw new Error("no commit waits")
  moveTo(client, client.pending)
}

function moveTo(client, state) {
  client.state = state
  client.pending = undefined
  client.updates = []
}

// --- receiving ---------------------------------------------------------------------------------------------------

async function receive(command) {
  const client = clientOf(command)
  const message = read(command.message)
  const own = stateOf(client).privatePath.leafIndex
  let seen
  const look = (incoming) => {
    seen = incoming
    return incoming.kind === "commit" && concerns(incoming.proposals, own) ? "reject" : "accept"
  }
  let result = await processed(client, client.state, message, look)
  if (result.kind === "applicationMessage") {
    client.state = result.newState
    return { kind: "application", data: hex(result.message), authenticated_data: hex(result.aad) }
  }
  let removed = false
  if (result.actionTaken === "reject") {
    // ts-mls cannot follow its own removal when the commit has a path, nor does it switch to the key of its own Update.
    removed = seen.proposals.some(({ proposal }) => removes(proposal, own))
    result = removed ? gone(client, result) : await processed(client, withNewKey(client, seen), message)
  }
  if (seen.kind === "commit") moveTo(client, result.newState)
  else client.state = result.newState
  return { kind: seen.kind, authenticated_data: hex(result.aad), removed }
}

const removes = (proposal, leafIndex) =>
  proposal.proposalType === mls.defaultProposalTypes.remove && proposal.remove.removed === leafIndex

const concerns = (proposals, leafIndex) =>
  proposals.some(({ proposal, senderLeafIndex }) => {
    const updates = proposal.proposalType === mls.defaultProposalTypes.update && senderLeafIndex === leafIndex
    return updates || removes(proposal, leafIndex)
  })

const gone = ({ state }, { aad }) => ({ newState: { ...state, groupActiveState: { kind: "removedFromGroup" } }, aad })

function withNewKey({ state, updates }, { proposals }) {
  const { leafIndex, privateKeys } = state.privatePath
  const isOwn = ({ proposal, senderLeafIndex }) => proposal.update !== undefined && senderLeafIndex === leafIndex
  const key = hex(proposals.find(isOwn).proposal.update.leafNode.hpkePublicKey)
  const { privateKey } = updates.find(({ leafNode }) => hex(leafNode.hpkePublicKey) === key)
  return { ...state, privatePath: { leafIndex, privateKeys: { ...privateKeys, [2 * leafIndex]: privateKey } } }
}

// Not through `processMessage`, which forgets the pre-shared keys when the message is private.
function processed(client, state, message, callback) {
  const params = { context: context(client), state, callback }
  if (message.wireformat === mls.wireformats.mls_private_message)
    return mls.processPrivateMessage({ ...params, privateMessage: message.privateMessage })
  if (message.wireformat === mls.wireformats.mls_public_message)
    return mls.processPublicMessage({ ...params, publicMessage: message.publicMessage })
  throw new mls.CodecError("another wire format")
}

// --- messages and what a member knows ----------------------------------------------------------------------------

async function seal(command) {
  const client = clientOf(command)
  const { newState, message } = await mls.createApplicationMessage({
    context: context(client),
    state: stateOf(client),
    message: bytes(command.data),
    authenticatedData: bytes(command.authenticated_data),
  })
  client.state = newState
  return write(message)
}

async function groupInfo(command) {
  const client = clientOf(command)
  const make = command.with_tree ? mls.createGroupInfoWithExternalPubAndRatchetTree : mls.createGroupInfoWithExternalPub
  return framed(mls.wireformats.mls_group_info, { groupInfo: await make(stateOf(client), [], client.suite) })
}

const treeOf = (state) => hex(mls.encode(ratchetTreeEncoder, state.ratchetTree))

function status(command) {
  const { groupContext, keySchedule, ratchetTree, privatePath, groupActiveState } = stateOf(clientOf(command))
  const nodes = ratchetTree.map((node, index) => [index / 2, node?.leaf])
  const leaves = nodes.filter(([, leaf]) => leaf !== undefined)
  return {
    is_active: groupActiveState.kind === "active",
    epoch: Number(groupContext.epoch),
    own_leaf_index: privatePath.leafIndex,
    epoch_authenticator: hex(keySchedule.epochAuthenticator),
    tree_hash: hex(groupContext.treeHash),
    extensions: groupContext.extensions.map(({ extensionType }) => extensionType),
    members: leaves.map(([index, leaf]) => [index, hex(leaf.credential.identity), hex(leaf.signaturePublicKey)]),
  }
}

async function exportSecret(command) {
  const client = clientOf(command)
  const { exporterSecret } = stateOf(client).keySchedule
  return hex(await mls.mlsExporter(exporterSecret, command.label, bytes(command.context), command.length, client.suite))
}

const COMMANDS = {
  new_client: newClient,
  know_psk: knowPsk,
  key_package: keyPackage,
  create_group: createGroup,
  join,
  join_external: joinExternal,
  propose_joining: proposeJoining,
  found_successor: foundSuccessor,
  propose,
  commit,
  take_up: takeUp,
  receive,
  seal,
  group_info: groupInfo,
  ratchet_tree: (command) => treeOf(stateOf(clientOf(command))),
  status,
  export: exportSecret,
  forget: (command) => void clients.delete(command.client),
}

export async function obey(command) {
  const act = COMMANDS[command?.do]
  if (act === undefined) throw new TypeError("no such command")
  return (await act(command)) ?? null
}
