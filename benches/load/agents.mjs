// Many agents at one server, each with a key and a connection of its own. Node's standard library alone.
//
//     agents.mjs '{"url": …, "keys": FILE, …}'
//
// The argument's fields are in README.md. Prints a line of JSON when the agents begin and another with what came of them.
import { createHash, createHmac, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Agent, request as send } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

const plan = {
  agents: 50,
  /** Seconds between two submissions of one agent. */
  every: 2.5,
  seconds: 30,
  /** So many submissions in all instead of a time. */
  conversions: Infinity,
  /** How the end is waited for: `events` (server-sent), `poll`, or not at all: `none`. */
  follow: 'poll',
  /** Seconds between two looks. */
  poll: 0.5,
  /** Instead of `every`: a request of each agent at this distance, a submission or a look at the one before. */
  spacing: 0,
  options: {},
  ...JSON.parse(process.argv[2]),
}
const SUBMIT = `mutation ($input: SubmitConversionInput!) {
  submitConversion(input: $input) { conversion { id status source { id } } } }`
const LOOK = 'query ($id: ID!) { conversion(id: $id) { status } }'
const FOLLOW = 'subscription ($id: ID!) { conversionProgress(id: $id) { status } }'
const ENDS = ['SUCCEEDED', 'FAILED', 'CANCELED']
/** A conversion that takes longer than this is given up. */
const END_MAX_MS = 120_000
/** Agents that upload their picture at the same time. */
const UPLOADS_AT_ONCE = 16

class Refused extends Error {
  constructor(code, message) {
    super(message)
    this.code = code
  }
}

const target = new URL('/graphql', plan.url)

/** A program with a key and a connection of its own. */
class Program {
  constructor({ keyId, secret }) {
    Object.assign(this, { keyId, secret, asset: undefined, connection: new Agent({ keepAlive: true }) })
  }

  headers(body, accept) {
    const digest = `sha-256=:${createHash('sha256').update(body).digest('base64')}:`
    const created = Math.floor(Date.now() / 1000)
    const nonce = randomBytes(16).toString('base64url')
    const parameters = `("@method" "@path" "content-digest");created=${created};nonce="${nonce}";keyid="${this.keyId}"`
    const base = `"@method": POST\n"@path": ${target.pathname}\n"content-digest": ${digest}\n"@signature-params": ${parameters}`
    return {
      accept,
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      'content-digest': digest,
      'signature-input': `sig=${parameters}`,
      signature: `sig=:${createHmac('sha256', this.secret).update(base).digest('base64')}:`,
    }
  }

  /** Sends an operation; `heard` gets each piece of the answer. Resolves with the status and the whole answer. */
  post(query, variables, accept = 'application/json', heard = undefined) {
    const body = JSON.stringify({ query, variables })
    return new Promise((resolve, reject) => {
      const { hostname, port, pathname: path } = target
      const headers = this.headers(body, accept)
      const request = send({ method: 'POST', hostname, port, path, headers, agent: this.connection }, (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (piece) => {
          text += piece
          heard?.(piece)
        })
        response.on('end', () => resolve({ status: response.statusCode, text }))
        response.on('error', reject)
      })
      request.on('error', (error) => {
        // The server had closed the connection, and the request never got there.
        if (request.reusedSocket && error.code === 'ECONNRESET') {
          this.post(query, variables, accept, heard).then(resolve, reject)
        } else {
          reject(error)
        }
      })
      request.end(body)
    })
  }

  async run(query, variables) {
    const { status, text } = await this.post(query, variables)
    const answer = parse(text)
    const error = answer?.errors?.[0]
    if (error || !answer) throw new Refused(error?.extensions?.code ?? `HTTP_${status}`, error?.message ?? text)
    return answer.data
  }

  /** Submits, and yields the conversion's id and how long the answer took. */
  async submit(image) {
    const began = performance.now()
    const { submitConversion } = await this.run(SUBMIT, { input: { image, options: plan.options } })
    const took = performance.now() - began
    const { id, source } = submitConversion.conversion
    this.asset ??= source.id
    return { id, took }
  }

  async look(id) {
    const { conversion } = await this.run(LOOK, { id })
    return conversion?.status ?? 'GONE'
  }

  /** The status in which a conversion has ended. */
  async follow(id, how) {
    if (how === 'events') {
      const { status, text } = await this.post(FOLLOW, { id }, 'text/event-stream')
      const statuses = [...text.matchAll(/"status":"([A-Z]+)"/g)]
      if (status !== 200 || !statuses.length) throw new Refused(parse(text)?.errors?.[0]?.extensions?.code ?? `HTTP_${status}`, text)
      return statuses.at(-1)[1]
    }
    const until = performance.now() + END_MAX_MS
    while (performance.now() < until) {
      await sleep(plan.poll * 1000)
      const status = await this.look(id)
      if (ENDS.includes(status)) return status
    }
    return 'TOO_LATE'
  }
}

function parse(text) {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** What the agents have met, all together. */
const met = { submitted: 0, submitMs: [], endMs: [], refusals: {}, ends: {}, requests: 0 }
function refuse(error) {
  const code = error.code ?? error.constructor.name
  if (!met.refusals[code]) console.error(`${code}: ${error.message}`)
  met.refusals[code] = (met.refusals[code] ?? 0) + 1
}
function end(status, began) {
  met.ends[status] = (met.ends[status] ?? 0) + 1
  met.endMs.push(performance.now() - began)
}

const programs = JSON.parse(readFileSync(plan.keys, 'utf8'))
  .slice(0, plan.agents)
  .map((key) => new Program(key))
await prepare()
console.log(JSON.stringify({ event: 'begin' }))
const began = performance.now()
const usedBefore = process.cpuUsage()
const over = () => performance.now() - began >= plan.seconds * 1000 || met.submitted >= plan.conversions
await Promise.all(programs.map(plan.spacing ? spaced : paced))
const seconds = (performance.now() - began) / 1000
const used = process.cpuUsage(usedBefore)
// A pipe takes 64 kB at a time: the end waits until all of it is written.
process.stdout.write(JSON.stringify({ event: 'end', ...summary() }) + '\n', () => process.exit(0))

/** Each agent uploads its picture once, by a conversion of its own, unless the file of assets knows it from before. */
async function prepare() {
  const base64 = readFileSync(plan.picture, 'base64')
  const known = plan.assets ?? {}
  const waiting = programs.filter((program) => !(program.asset = known[program.keyId]))
  const upload = async () => {
    for (let program = waiting.pop(); program; program = waiting.pop()) {
      const { id } = await program.submit({ base64 })
      if (plan.follow === 'none') continue
      const ended = await program.follow(id, plan.follow)
      if (ended !== 'SUCCEEDED') throw new Error(`a first conversion ended as ${ended}`)
    }
  }
  await Promise.all(Array.from({ length: UPLOADS_AT_ONCE }, upload))
}

/** Submits at even distances, or as soon as the conversion before has ended. */
async function paced(program) {
  let due = began + Math.random() * plan.every * 1000
  while (due < began + plan.seconds * 1000) {
    const wait = due - performance.now()
    if (wait > 0) await sleep(wait)
    if (over()) return
    met.submitted++
    const from = performance.now()
    try {
      const { id, took } = await program.submit({ assetId: program.asset })
      met.submitMs.push(took)
      if (plan.follow !== 'none') end(await program.follow(id, plan.follow), from)
    } catch (error) {
      refuse(error)
    }
    due = Math.max(due + plan.every * 1000, performance.now())
  }
}

/** Sends a request at even distances: a look at what it has submitted, or, when that has ended, the next submission. */
async function spaced(program) {
  let due = began + Math.random() * plan.spacing * 1000
  let current
  while (!over() || current) {
    const wait = due - performance.now()
    if (wait > 0) await sleep(wait)
    try {
      met.requests++
      if (!current) {
        if (over()) return
        met.submitted++
        const from = performance.now()
        const { id, took } = await program.submit({ assetId: program.asset })
        met.submitMs.push(took)
        current = { id, from }
      } else {
        const status = await program.look(current.id)
        if (ENDS.includes(status)) {
          end(status, current.from)
          current = undefined
        }
      }
    } catch (error) {
      refuse(error)
    }
    due = Math.max(due + plan.spacing * 1000, performance.now())
  }
}

function summary() {
  const sorted = (values) => Float64Array.from(values).sort()
  const at = (values, share) => values[Math.max(0, Math.ceil(values.length * share) - 1)] ?? null
  const [submits, ends] = [sorted(met.submitMs), sorted(met.endMs)]
  const mean = (values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null)
  return {
    agents: programs.length,
    seconds,
    submitted: met.submitted,
    answered: submits.length,
    perSecond: submits.length / seconds,
    submitMs: { p50: at(submits, 0.5), p95: at(submits, 0.95), p99: at(submits, 0.99), max: at(submits, 1) },
    endMs: { mean: mean(ends), p95: at(ends, 0.95), max: at(ends, 1) },
    succeeded: met.ends.SUCCEEDED ?? 0,
    ends: met.ends,
    refusals: met.refusals,
    processorSeconds: (used.user + used.system) / 1e6,
    assets: Object.fromEntries(programs.map((program) => [program.keyId, program.asset])),
  }
}
