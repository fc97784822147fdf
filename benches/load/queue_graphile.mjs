// What graphile-worker's queue costs by the rows in its table: adding a job, getting one, and completing it.
//
//     queue_graphile.mjs ROWS,… CALLERS,… JOBS
//
// `DATABASE_URL` names an empty database. Getting and completing are the library's own functions, one job at a time, each
// caller on a connection of its own; `run` is its own runner with so many jobs at a time. Prints JSON.
import { createRequire } from 'node:module'
import { Logger, run, runMigrations } from 'graphile-worker'
import { openPool } from './pool.mjs'

const require = createRequire(import.meta.url)
// The package exports its own folder, though not for the public: what the runner calls for each job.
const folder = require.resolve('graphile-worker').replace(/index\.js$/, '')
const { batchGetJobs } = require(folder + 'sql/getJobs.js')
const { batchCompleteJobs } = require(folder + 'sql/completeJobs.js')
const { processSharedOptions } = require(folder + 'lib.js')

const [sizes, callers] = process.argv.slice(2, 4).map((list) => list.split(',').map(Number))
const jobs = Number(process.argv[4])
const pool = openPool(20)
const logger = new Logger(() => (level, message) => level === 'error' && console.error(message))
await runMigrations({ pgPool: pool, logger })
const shared = processSharedOptions({ pgPool: pool, logger })
const tasks = { convert: () => {} }
const PAYLOAD = { id: '01234567-89ab-7cde-8f01-23456789abcd' }
/** As in orfeas' bench, one row of a hundred may be taken; the others are due in a year. */
const DUE_EACH = 100
const FILL = `
  INSERT INTO graphile_worker._private_jobs (task_id, payload, run_at)
  SELECT (SELECT id FROM graphile_worker._private_tasks WHERE identifier = 'convert'), $2,
    now() - interval '2 minutes' + CASE WHEN place % $3 = 0 THEN interval '0' ELSE interval '1 year' END + place * interval '1 ms'
  FROM generate_series(1, $1::bigint) AS place`

async function wal() {
  const { rows } = await pool.query(`SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8 AS bytes`)
  return rows[0].bytes
}

/** Lets so many callers go through the items; yields the figures, and what the calls came to. */
async function timed(count, items, one) {
  const from = await wal()
  const clients = await Promise.all(Array.from({ length: count }, () => pool.connect()))
  const [took, results] = [[], []]
  const began = performance.now()
  await Promise.all(
    clients.map(async (client, turn) => {
      const withClient = (use) => use(client)
      withClient.withRetries = withClient
      for (let place = turn; place < items.length; place += count) {
        const begun = performance.now()
        results.push(await one(withClient, items[place], turn))
        took.push(performance.now() - begun)
      }
    }),
  )
  const seconds = (performance.now() - began) / 1000
  clients.forEach((client) => client.release())
  took.sort((a, b) => a - b)
  const at = (share) => took[Math.max(0, Math.ceil(took.length * share) - 1)]
  const row = { perSecond: items.length / seconds, p50Ms: at(0.5), p99Ms: at(0.99), walBytes: ((await wal()) - from) / items.length }
  return { row, results }
}

const enqueue = (withClient) =>
  withClient((client) =>
    client.query({
      name: 'add_job',
      text: `SELECT * FROM graphile_worker.add_job('convert', payload := $1)`,
      values: [PAYLOAD],
    }),
  )
const claim = async (withClient, _, turn) => {
  const [job] = await batchGetJobs(shared, withClient, tasks, `caller ${turn}`, null, 1)
  if (!job) throw new Error('there was nothing to get')
  return job
}
const complete = (withClient, job, turn) => batchCompleteJobs(shared, withClient, `caller ${turn}`, [job])

const rows = []
const count = async () => Number((await pool.query('SELECT count(*) FROM graphile_worker._private_jobs')).rows[0].count)
await pool.query(`SELECT graphile_worker.add_job('convert', '{}')`)
for (const size of sizes) {
  const began = performance.now()
  await pool.query(FILL, [Math.max(0, size - (await count())), PAYLOAD, DUE_EACH])
  await pool.query('VACUUM (ANALYZE) graphile_worker._private_jobs')
  await pool.query('CHECKPOINT')
  console.error(`${size} rows after ${((performance.now() - began) / 1000).toFixed(0)} s`)
  for (const callersNow of callers) {
    const numbers = Array.from({ length: jobs }, (_, number) => number)
    const add = (operation, { row }) => rows.push({ rows: size, callers: callersNow, operation, ...row })
    add('enqueue', await timed(callersNow, numbers, enqueue))
    const claimed = await timed(callersNow, numbers, claim)
    add('claim', claimed)
    add('complete', await timed(callersNow, claimed.results, complete))
  }
  rows.push({ rows: size, callers: 16, operation: 'run', ...(await runner(16)) })
}
console.log(JSON.stringify(rows))
await pool.end()

/** The same number of jobs by the library's own runner, added before it starts. */
async function runner(concurrency) {
  await timed(16, Array.from({ length: jobs }), enqueue)
  const from = await wal()
  let done = 0
  let finish
  const finished = new Promise((resolve) => (finish = resolve))
  const began = performance.now()
  const taskList = { convert: () => (++done === jobs ? finish() : undefined) }
  const started = await run({ pgPool: pool, logger, taskList, concurrency, noHandleSignals: true })
  await finished
  const seconds = (performance.now() - began) / 1000
  await started.stop()
  return { perSecond: jobs / seconds, p50Ms: null, p99Ms: null, walBytes: ((await wal()) - from) / jobs }
}
