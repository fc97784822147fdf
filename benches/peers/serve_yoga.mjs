// conversionProgress as GraphQL Yoga and graphql-ws serve it, over the same tables and notifications as `orfeas`.
// Prints its address; `DATABASE_URL` names the database. tests/it/subscriptions/crowd.rs drives it.
import { createServer } from 'node:http'
import { EventEmitter } from 'node:events'
import { createSchema, createYoga } from 'graphql-yoga'
import { useServer } from 'graphql-ws/use/ws'
import pg from 'pg'
import { WebSocketServer } from 'ws'

const url = new URL(process.env.DATABASE_URL)
const database = {
  host: url.searchParams.get('host') ?? url.hostname,
  port: Number(url.searchParams.get('port') ?? (url.port || 5432)),
  user: url.searchParams.get('user') ?? decodeURIComponent(url.username),
  password: url.searchParams.get('password') ?? decodeURIComponent(url.password),
  database: url.searchParams.get('dbname') ?? url.pathname.slice(1),
}
const pool = new pg.Pool({ ...database, max: 16 })
const woken = new EventEmitter()
woken.setMaxListeners(0)
const listener = new pg.Client(database)
await listener.connect()
listener.on('notification', ({ payload }) => woken.emit(JSON.parse(payload).conversion))
await listener.query('LISTEN orfeas_event')

const TERMINAL = ['succeeded', 'failed', 'canceled']
const shown = ({ sequence, status, stage }) => ({
  conversionProgress: { sequence, status: status.toUpperCase(), stage: stage?.toUpperCase() ?? null, progress: 0 },
})

async function* follow(id) {
  let wake = () => {}
  let changed = false
  const hear = () => {
    changed = true
    wake()
  }
  woken.on(id, hear)
  try {
    const { rows } = await pool.query({
      name: 'row',
      text: 'SELECT sequence, status, stage FROM conversion WHERE id = $1',
      values: [id],
    })
    let seen = rows[0].sequence
    yield shown(rows[0])
    while (true) {
      if (!changed) await new Promise((resolve) => (wake = resolve))
      changed = false
      const events = await pool.query({
        name: 'events',
        text: 'SELECT sequence, status, stage FROM conversion_event WHERE conversion_id = $1 AND sequence > $2 ORDER BY sequence',
        values: [id, seen],
      })
      for (const event of events.rows) {
        seen = event.sequence
        yield shown(event)
        if (TERMINAL.includes(event.status)) return
      }
    }
  } finally {
    woken.off(id, hear)
  }
}

const schema = createSchema({
  typeDefs: /* GraphQL */ `
    type Query {
      ok: Boolean!
    }
    type ConversionProgress {
      sequence: Int!
      status: String!
      stage: String
      progress: Float!
    }
    type Subscription {
      conversionProgress(id: ID!, after: Int): ConversionProgress!
    }
  `,
  resolvers: {
    Query: { ok: () => true },
    Subscription: { conversionProgress: { subscribe: (_, { id }) => follow(uuid(id)) } },
  },
})

// Ids are written as a kind and 32 digits.
function uuid(id) {
  return id.replace(/^cnv_(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

const yoga = createYoga({ schema, logging: false })
const server = createServer(yoga)
useServer(
  {
    execute: (args) => args.rootValue.execute(args),
    subscribe: (args) => args.rootValue.subscribe(args),
    onSubscribe: async (context, _id, params) => {
      const { schema, execute, subscribe, contextFactory, parse, validate } = yoga.getEnveloped({
        ...context,
        req: context.extra.request,
        socket: context.extra.socket,
        params,
      })
      const args = {
        schema,
        operationName: params.operationName,
        document: parse(params.query),
        variableValues: params.variables,
        contextValue: await contextFactory(),
        rootValue: { execute, subscribe },
      }
      const errors = validate(args.schema, args.document)
      return errors.length ? errors : args
    },
  },
  new WebSocketServer({ server, path: yoga.graphqlEndpoint }),
)
server.listen(0, '127.0.0.1', () => console.log(`127.0.0.1:${server.address().port}`))
