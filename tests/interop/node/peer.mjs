// A peer that plays members of MLS groups with ts-mls, for the interop tests.
//
//     node peer.mjs --now SECONDS [--as-it-is]
//
// It reads one command a line, a JSON object whose "do" names it, and answers each with one line: {"ok": ...} or
// {"error": name, "message": text}. Bytes are hexadecimal. Bad input is answered, never fatal; the end of the input
// ends it. All time is --now, in seconds since 1970 UTC, so that both sides of a test have the same clock.
// --as-it-is: load ts-mls without the mends of mends.mjs.

import { createInterface } from "node:readline"
import { parseArgs } from "node:util"

const { values } = parseArgs({ options: { now: { type: "string" }, "as-it-is": { type: "boolean", default: false } } })
const nowMs = 1000 * Number(values.now)
Date.now = () => nowMs

if (!values["as-it-is"]) {
  const { mend } = await import("./mends.mjs")
  mend()
}
const { obey } = await import("./commands.mjs")

async function answer(line) {
  try {
    return { ok: await obey(JSON.parse(line)) }
  } catch (error) {
    return { error: error?.constructor?.name ?? "Error", message: String(error?.message ?? error) }
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(JSON.stringify(await answer(line)) + "\n")
}
