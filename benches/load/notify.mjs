// Whether commits that notify share their write to disk, as others do: one row a commit, with and without `pg_notify`.
//
//     notify.mjs CALLERS,… SECONDS
//
// `DATABASE_URL` names an empty database. Prints JSON.
import { openPool } from './pool.mjs'

const [callers, seconds] = process.argv.slice(2).map((list) => list.split(',').map(Number))
const pool = openPool(Math.max(...callers))
await pool.query('CREATE TABLE event (id bigserial PRIMARY KEY, what text)')
const INSERT = `INSERT INTO event (what) VALUES (repeat('x', 300))`
const kinds = {
  commit: INSERT,
  'commit that notifies': `WITH added AS (${INSERT} RETURNING id) SELECT pg_notify('event', id::text) FROM added`,
}
const rows = []
for (const count of callers) {
  for (const [operation, text] of Object.entries(kinds)) {
    let commits = 0
    const end = performance.now() + seconds[0] * 1000
    await Promise.all(
      Array.from({ length: count }, async () => {
        const client = await pool.connect()
        for (; performance.now() < end; commits++) await client.query({ name: operation, text })
        client.release()
      }),
    )
    rows.push({ callers: count, operation, perSecond: commits / seconds[0] })
  }
}
console.log(JSON.stringify(rows))
await pool.end()
