// Submissions as GraphQL Yoga and graphile-worker take them.
//
//     serve_yoga.mjs setup | api | worker
//
// `DATABASE_URL` names the database. `api` prints its address, `worker` a line when it is ready; README.md says what is done.
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { Logger, run, runMigrations } from 'graphile-worker'
import { createGraphQLError, createSchema, createYoga } from 'graphql-yoga'
import { openPool } from './pool.mjs'

const CLOCK_WINDOW_SECONDS = 300
const CONNECTIONS = 16

const pool = openPool(CONNECTIONS)

const secrets = new Map()
async function secretOf(id) {
  const known = secrets.get(id)
  if (known) return known
  const { rows } = await pool.query('SELECT secret FROM api_key WHERE id = $1', [id])
  if (rows.length) secrets.set(id, rows[0].secret)
  return rows[0]?.secret
}

/** The key and the nonce of a request whose signature is right; undefined for any other. */
async function verify(request, body) {
  const { 'signature-input': input, signature, 'content-digest': digest } = request.headers
  const [, parameters, names] = /^\w+=(\(([^)]*)\).*)$/.exec(input ?? '') ?? []
  if (!parameters || !signature || !digest) return
  const parameter = (name) => new RegExp(`;${name}="?([^";]+)"?`).exec(parameters)?.[1]
  const [created, nonce, keyId] = ['created', 'nonce', 'keyid'].map(parameter)
  if (Math.abs(Date.now() / 1000 - Number(created)) > CLOCK_WINDOW_SECONDS || !nonce) return
  const values = { '@method': request.method, '@path': request.url, 'content-digest': digest }
  const covered = names.split(' ').map((name) => name.slice(1, -1))
  if (!Object.keys(values).every((name) => covered.includes(name))) return
  const secret = await secretOf(keyId)
  if (!secret) return
  const lines = covered.map((name) => `"${name}": ${values[name]}`)
  const base = [...lines, `"@signature-params": ${parameters}`].join('\n')
  const right = createHmac('sha256', secret).update(base).digest()
  const sent = Buffer.from(/:([^:]*):/.exec(signature)?.[1] ?? '', 'base64')
  if (sent.length !== right.length || !timingSafeEqual(sent, right)) return
  if (digest !== `sha-256=:${createHash('sha256').update(body).digest('base64')}:`) return
  return { owner: keyId, nonce }
}

const NONCE = {
  name: 'nonce',
  text: `INSERT INTO nonce VALUES ($1, $2, now() + interval '10 minutes') ON CONFLICT DO NOTHING`,
}
async function useNonce(client, { owner, nonce }) {
  const { rowCount } = await client.query({ ...NONCE, values: [owner, nonce] })
  if (!rowCount) throw createGraphQLError('The nonce was used before.', { extensions: { code: 'UNAUTHENTICATED' } })
}

/** Does some work in one transaction. */
async function together(work) {
  const client = await pool.connect()
  try {
    await client.query('BEGIN')
    const done = await work(client)
    await client.query('COMMIT')
    return done
  } catch (error) {
    await client.query('ROLLBACK')
    throw error
  } finally {
    client.release()
  }
}

async function submit(_, { input }, { caller }) {
  return together(async (client) => {
    await useNonce(client, caller)
    let assetId = input.image.assetId
    if (!assetId) {
      const picture = Buffer.from(input.image.base64, 'base64')
      const insert = { name: 'asset', text: 'INSERT INTO asset (owner, picture) VALUES ($1, $2) RETURNING id' }
      assetId = (await client.query({ ...insert, values: [caller.owner, picture] })).rows[0].id
    }
    const { rows } = await client.query({
      name: 'conversion',
      text: `INSERT INTO conversion (owner, asset_id, options)
             SELECT owner, id, $3 FROM asset WHERE id = $2 AND owner = $1 RETURNING id, status`,
      values: [caller.owner, assetId, JSON.stringify(input.options ?? {})],
    })
    if (!rows.length) throw createGraphQLError('No such picture.', { extensions: { code: 'NOT_FOUND' } })
    await client.query({
      name: 'add_job',
      text: `SELECT id FROM graphile_worker.add_job('convert', payload := json_build_object('id', $1::text))`,
      values: [rows[0].id],
    })
    return { conversion: { ...rows[0], source: { id: assetId } } }
  })
}

async function conversion(_, { id }, { caller }) {
  await useNonce(pool, caller)
  const find = { name: 'find', text: 'SELECT id, status FROM conversion WHERE id = $1 AND owner = $2' }
  return (await pool.query({ ...find, values: [id, caller.owner] })).rows[0] ?? null
}

const typeDefs = /* GraphQL */ `
  type Asset { id: ID! }
  type Conversion { id: ID! status: String! source: Asset }
  type SubmitConversionPayload { conversion: Conversion! }
  input ImageInput { assetId: ID base64: String }
  input ConversionOptionsInput { resolution: Int }
  input SubmitConversionInput { image: ImageInput! options: ConversionOptionsInput }
  type Query { conversion(id: ID!): Conversion }
  type Mutation { submitConversion(input: SubmitConversionInput!): SubmitConversionPayload! }
`

function serve() {
  const resolvers = { Query: { conversion }, Mutation: { submitConversion: submit } }
  const yoga = createYoga({ schema: createSchema({ typeDefs, resolvers }), logging: false })
  const server = createServer(async (request, response) => {
    const parts = []
    for await (const part of request) parts.push(part)
    const body = Buffer.concat(parts)
    const caller = await verify(request, body)
    if (!caller) {
      const errors = [{ message: 'The signature is not right.', extensions: { code: 'UNAUTHENTICATED' } }]
      response.writeHead(401, { 'content-type': 'application/json' }).end(JSON.stringify({ errors }))
      return
    }
    // Yoga takes a body that somebody has read before it.
    request.body = JSON.parse(body)
    await yoga(request, response, { caller })
  })
  // Agents keep their connection between two conversions.
  server.keepAliveTimeout = 120_000
  server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`))
}

async function convert({ id }) {
  for (const [name, text] of [
    ['begin', `UPDATE conversion SET status = 'RUNNING', started_at = now() WHERE id = $1 AND status = 'QUEUED'`],
    ['end', `UPDATE conversion SET status = 'SUCCEEDED', finished_at = now() WHERE id = $1 AND status = 'RUNNING'`],
  ]) {
    await pool.query({ name, text, values: [id] })
  }
}

// A line for each job would cost more than the job.
const logger = new Logger(() => (level, message) => level === 'error' && console.error(message))
switch (process.argv[2]) {
  case 'setup':
    await pool.query(await readFile(new URL('peers.sql', import.meta.url), 'utf8'))
    await runMigrations({ pgPool: pool, logger })
    await pool.end()
    break
  case 'api':
    serve()
    break
  case 'worker':
    await run({ pgPool: pool, logger, taskList: { convert }, concurrency: CONNECTIONS - 2, noHandleSignals: true })
    console.log('ready')
    break
}
