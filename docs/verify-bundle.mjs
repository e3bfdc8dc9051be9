#!/usr/bin/env node
// Checks a bundle of VoltRun with nothing but Node.js 18 or newer. It shares no code with VoltRun: read it, then trust it.
//
//     node verify-bundle.mjs BUNDLE [PUBLIC-KEY]
//
// PUBLIC-KEY is the one that you know from elsewhere. Without it, the bundle's own is used, and shown for you to compare.
// docs/auditing.md says what a bundle proves and what it does not.
import { createHash, createPublicKey, verify } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'

const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest()
const leafHash = (text) => sha256(Buffer.of(0), text) // RFC 6962, 2.1: the byte keeps a leaf from being taken for a node
const nodeHash = (left, right) => sha256(Buffer.of(1), left, right)
const must = (holds, what) => { if (!holds) throw new Error(what) }

// A public key is name+hash+base64(1 || Ed25519 key), as in C2SP's signed-note.
function parseKey(text) {
  const [, name, hash, base64] = /^([^+\s]+)\+([0-9a-f]{8})\+(\S+)$/.exec(text) ?? []
  must(name, `${text} is not a public key.`)
  const key = Buffer.from(base64, 'base64')
  must(key.length === 33 && key[0] === 1, `${name} is not an Ed25519 key.`)
  const id = sha256(name, '\n', key).subarray(0, 4)
  must(id.toString('hex') === hash, `The public key of ${name} is damaged.`)
  const spki = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), key.subarray(1)]) // RFC 8410
  return { name, id, public: createPublicKey({ key: spki, format: 'der', type: 'spki' }) }
}

// A head is a signed note: the origin, the size and the root in a line each, an empty line, and signatures.
function openHead(note, key) {
  const end = note.lastIndexOf('\n\n')
  const text = note.slice(0, end + 1)
  const signed = note.slice(end + 2).split('\n').some((line) => {
    const [dash, name, base64] = line.split(' ')
    const signature = Buffer.from(base64 ?? '', 'base64')
    return dash === '—' && name === key.name && signature.subarray(0, 4).equals(key.id) &&
      verify(null, Buffer.from(text), key.public, signature.subarray(4))
  })
  must(signed, `The head is not signed by ${key.name}.`)
  const [origin, size, root] = text.split('\n')
  must(origin === key.name && /^[1-9][0-9]*$/.test(size), 'The head is not one of a log.')
  return { size: Number(size), root: Buffer.from(root, 'base64') }
}

// The root that an inclusion proof leads to: RFC 9162, 2.1.3.2.
function rootByProof(hash, index, size, proof) {
  let last = size - 1
  for (const sibling of proof.map((text) => Buffer.from(text, 'base64'))) {
    must(last > 0, 'The proof is too long.')
    if (index % 2 === 1 || index === last) {
      hash = nodeHash(sibling, hash)
      while (index % 2 === 0 && index > 0) [index, last] = [index / 2, Math.floor(last / 2)]
    } else {
      hash = nodeHash(hash, sibling)
    }
    [index, last] = [Math.floor(index / 2), Math.floor(last / 2)]
  }
  must(last === 0, 'The proof is too short.')
  return hash
}

// A tree that grows: the roots of its full subtrees, from the largest to the smallest.
class Tree {
  size = 0
  full = []
  add(hash) {
    this.full.push(hash)
    for (let n = ++this.size; n % 2 === 0; n /= 2) {
      const right = this.full.pop()
      this.full.push(nodeHash(this.full.pop(), right))
    }
  }
  root = () => this.full.reduceRight((right, left) => nodeHash(left, right))
}

// A leaf is 16 lines of text; see docs/auditing.md.
function parseLeaf(text) {
  const lines = text.split('\n')
  must(lines.length === 17 && lines[0] === 'voltrun event v1' && lines[16] === '', 'There is no leaf.')
  return { position: Number(lines[1]), stream: lines[2], type: lines[5], account: lines[7], commitment: lines[15] }
}

// Whether a log.archived event says that this payload was archived, which happens to nothing but what functions print.
const covers = (fact, { position, type, account }) =>
  type === 'execution.log_line' && fact.types.includes(type) && fact.from <= position && position <= fact.to &&
  (!fact.accounts?.length || fact.accounts.includes(account)) && !fact.except?.includes(account)

function checkEvent(event, state) {
  const { header, head, tree, absent } = state
  const leaf = parseLeaf(event.leaf)
  must(leaf.position === event.position && leaf.position > state.last, 'The event stands in the wrong place.')
  must(header.account === undefined || leaf.account === header.account, 'It is of another account.')
  must(header.execution === undefined || leaf.stream === header.execution, 'It is of another execution.')
  const hash = leafHash(event.leaf)
  if (header.complete) {
    must(leaf.position === state.last + 1, `There is no event at position ${state.last + 1}.`)
    tree.add(hash)
  } else {
    const root = rootByProof(hash, event.position - 1, head.size, event.proof ?? [])
    must(root.equals(head.root), 'It does not stand there in the log that was signed.')
  }
  state.last = leaf.position
  state.events++
  if (leaf.type === 'account.erased') state.erasures.add(leaf.stream)
  if (event.content === null) {
    must(Object.hasOwn(absent, event.reason ?? ''), `Its content is ${event.reason ?? 'missing'}.`)
    return absent[event.reason].push({ position: leaf.position, type: leaf.type, account: leaf.account })
  }
  const commitment = sha256(Buffer.from(event.salt, 'hex'), event.content).toString('hex')
  must(commitment === leaf.commitment, 'What it says is not what was recorded.')
  if (leaf.type === 'log.archived') state.archivals.push(JSON.parse(event.content))
}

async function check(file, knownKey) {
  const absent = { erased: [], archived: [] }
  const state = { last: 0, events: 0, tree: new Tree(), absent, erasures: new Set(), archivals: [] }
  for await (const line of createInterface({ input: createReadStream(file) })) {
    const event = JSON.parse(line)
    if (!state.header) {
      must(event.format === 'voltrun bundle' && event.version === 1, 'This is not a bundle of VoltRun.')
      state.header = event
      state.head = openHead(event.head, parseKey(knownKey ?? event.public_key))
      continue
    }
    must(state.end === undefined, 'Something stands behind the end.')
    if ((state.end = event.events) !== undefined) continue
    try {
      checkEvent(event, state)
    } catch (err) {
      throw new Error(`Position ${event.position}: ${err.message}`)
    }
  }
  const { header, head, tree, events, end } = state
  must(header && events === end, `The bundle has ${events} events and no end that says so: it is not whole.`)
  must(!header.complete || (tree.size === head.size && tree.root().equals(head.root)), 'These are not all events that were signed.')
  const { erased, archived } = absent, opened = events - erased.length - archived.length
  console.log(`OK: ${events} events of a log of ${head.size}: ${opened} opened, ${erased.length} erased, ${archived.length} archived.`)
  const notErased = erased.filter((leaf) => !state.erasures.has(leaf.account))
  const notArchived = archived.filter((leaf) => !state.archivals.some((fact) => covers(fact, leaf)))
  for (const [n, reason] of [[notErased.length, 'erased'], [notArchived.length, 'archived']]) {
    if (n) console.log(`NOT PROVED: ${n} payloads are absent. The bundle says that they were ${reason}, and nothing in it proves that.`)
  }
  console.log(`Signed by ${knownKey ?? header.public_key}${knownKey ? '' : ' (as the bundle says: compare it with what you know)'}`)
}

check(process.argv[2], process.argv[3]).catch((err) => {
  console.error(`NOT TRUE: ${err.message}`)
  process.exitCode = 1
})
