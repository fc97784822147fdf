// Connections to the database that `DATABASE_URL` names, whose parameters may say what the rest of a URL can't: a socket's folder.
import pg from 'pg'

/** A pool of so many connections at most. One that breaks while nobody uses it is told, and ends nothing. */
export function openPool(max) {
  const url = new URL(process.env.DATABASE_URL)
  const pool = new pg.Pool({
    host: url.searchParams.get('host') ?? url.hostname,
    port: Number(url.searchParams.get('port') ?? (url.port || 5432)),
    user: url.searchParams.get('user') ?? decodeURIComponent(url.username),
    database: url.pathname.slice(1),
    max,
  })
  pool.on('error', (error) => console.error(error.message))
  pool.on('connect', (client) => client.on('error', (error) => console.error(error.message)))
  return pool
}
