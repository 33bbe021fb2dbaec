// What ts-mls 2.0.0-rc.10 does against RFC 9420, mended while its source is loaded.
//
// Without these mends most of a random script could not go on: each stands in the way of what comes after it. A mend
// replaces one passage that must be there exactly once, so that a release of ts-mls that has changed it is noticed, and
// `test_ts_mls_as_it_is.py` shows for each mend what ts-mls does without it.

import { readFileSync } from "node:fs"
import { registerHooks } from "node:module"
import { fileURLToPath } from "node:url"

const MENDS = [
  {
    // §12.4, §17.4: an Update, a Remove and a GroupContextExtensions need a path each; ts-mls wants two of a kind.
    file: "clientState.js",
    passages: [
      [
        `Object.values(grouped[defaultProposalTypes.update]).length > 1 ||
            Object.values(grouped[defaultProposalTypes.remove]).length > 1;`,
        `grouped[defaultProposalTypes.update].length > 0 ||
            grouped[defaultProposalTypes.remove].length > 0 ||
            grouped[defaultProposalTypes.group_context_extensions].length > 0;`,
      ],
    ],
  },
  {
    // §7.9.2: an unmerged leaf is listed by the nodes between it and the one that lists it; ts-mls wants the same list
    // in all its ancestors, and so refuses trees that honest members make.
    file: "clientState.js",
    passages: [
      [`nodeTypes.leaf && !dp.includes(toNodeIndex(i)))`, `nodeTypes.leaf || !dp.includes(toNodeIndex(i)))`],
      [`for (const parentIdx of dp) {`, `for (const parentIdx of dp.slice(0, dp.indexOf(toNodeIndex(i)))) {`],
      [
        `!arraysEqual(dpNode.parent.unmergedLeaves, n.parent.unmergedLeaves)`,
        `!dpNode.parent.unmergedLeaves.includes(unmergedLeaf)`,
      ],
    ],
  },
  {
    // §7.5, §12.4.1: path secrets are sealed in the new epoch's context, to the keys of the tree after the proposals,
    // and not to whom the commit adds; ts-mls takes the old context and the old tree's keys.
    file: "createCommit.js",
    passages: [
      [
        `state.ratchetTree, mutableTree, toLeafIndex(state.privatePath.leafIndex), state.groupContext,`,
        `
            Object.assign(mutableTree.slice(), {
              added: new Set(res.additionalResult.addedLeafNodes.map(([leaf]) => toNodeIndex(2 * leaf))),
            }),
            mutableTree,
            toLeafIndex(state.privatePath.leafIndex),
            res.additionalResult.extensions.length > 0
              ? { ...state.groupContext, extensions: res.additionalResult.extensions }
              : state.groupContext,`,
      ],
    ],
  },
  {
    // The rest of the same: those whom the commit adds get no path secret here.
    file: "updatePath.js",
    passages: [[`pathSecret.sendTo.map(`, `pathSecret.sendTo.filter((node) => !originalTree.added?.has(node)).map(`]],
  },
  {
    // §12.4.3.2: external_pub is an HPKEPublicKey, which begins with its length.
    file: "createCommit.js",
    passages: [
      [
        `import { wireformats } from "./wireformat.js";`,
        `import { wireformats } from "./wireformat.js";
import { decode } from "./codec/tlsDecoder.js";
import { varLenDataDecoder, varLenDataEncoder } from "./codec/variableLength.js";`,
      ],
      [`extensionData: externalPub }]`, `extensionData: encode(varLenDataEncoder, externalPub) }]`],
      [`extensionData: externalPub },`, `extensionData: encode(varLenDataEncoder, externalPub) },`],
      [`exportSecret(externalPub.extensionData,`, `exportSecret(decode(varLenDataDecoder, externalPub.extensionData),`],
    ],
  },
  {
    // §7.4: the last path secret is that of the topmost node of the filtered path. Where one half of the tree is
    // empty, that is not the root, for which ts-mls derives one secret too many when it receives.
    file: "pathSecrets.js",
    passages: [
      [
        `const pathSecrets = { [nodeIndex]: pathSecret };`,
        `const pathSecrets = { [nodeIndex]: pathSecret };
    Object.defineProperty(pathSecrets, "last", { writable: true, value: pathSecret });`,
      ],
      [
        `const nextSecret = await`,
        `if (tree[nextIndex] === undefined)
            break;
        const nextSecret = pathSecrets.last = await`,
      ],
    ],
  },
  {
    file: "processMessages.js",
    passages: [[`const rootSecret = pathSecrets[rootIndex];`, `const rootSecret = pathSecrets.last;`]],
  },
]

const SOURCE = new URL("./node_modules/ts-mls/dist/src/", import.meta.url)

export function mend() {
  const mended = new Map()
  for (const { file, passages } of MENDS) {
    const url = new URL(file, SOURCE).href
    let source = mended.get(url) ?? readFileSync(fileURLToPath(url), "utf8")
    for (const [passage, better] of passages) {
      const parts = source.split(passage)
      if (parts.length !== 2) throw new Error(`${file} of ts-mls has changed: look at mends.mjs again`)
      source = parts.join(better)
    }
    mended.set(url, source)
  }
  registerHooks({
    load: (url, context, next) =>
      mended.has(url) ? { format: "module", source: mended.get(url), shortCircuit: true } : next(url, context),
  })
}
