#!/usr/bin/env node
// An agent of orfeas: submits pictures as one batch, follows it to its end and downloads the meshes.
//
//     agent.mjs --out DIR PICTURE...
//
// ORFEAS_URL is where the server is (http://127.0.0.1:8080), ORFEAS_KEY_FILE a file with what
// `orfeas keys create --name NAME --json` has printed. Each request is signed by RFC 9421 with the key's secret.
//
// Needs Node 20 or newer with graphql, graphql-ws and ws. The types are for `tsc` alone: without the folder agent-mjs
// beside it the program runs just as well.

import { createHash, createHmac, randomBytes, randomUUID } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { basename, extname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

/** How often a refused or broken request is tried again before the program gives up. */
const ATTEMPTS_MAX = 8;

/**
 * Gives each document the type that graphql-codegen has found for it; at run time it is the text itself.
 * @type {typeof import('./agent-mjs/generated/gql.js').graphql}
 */
const graphql = (/** @type {any} */ source) => source;

/**
 * @template Result, Variables
 * @typedef {import('./agent-mjs/generated/graphql.js').TypedDocumentString<Result, Variables>} Document
 */

const SUBMIT = graphql(`
  mutation Submit($input: SubmitBatchInput!) {
    submitBatch(input: $input) {
      batch { id }
      items { index conversion { id } error { code message } }
    }
  }
`);

const FOLLOW = graphql(`
  subscription Follow($id: ID!) {
    batchProgress(id: $id) { sequence progress counts { queued running succeeded failed canceled } }
  }
`);

const OUTPUTS = graphql(`
  query Outputs($id: ID!) {
    batch(id: $id) { conversions { id status error { code message } outputs { format url sha256 } } }
  }
`);

/** The server has refused something, for good. */
class Refused extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {unknown} [retryAfter] in seconds
   */
  constructor(code, message, retryAfter) {
    super(`${code}: ${message}`);
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

/** A client that signs with one key. */
class Agent {
  /**
   * @param {string} url
   * @param {{ keyId: string, secret: string }} key
   */
  constructor(url, key) {
    this.url = url.replace(/\/+$/, '') + '/graphql';
    this.key = key;
  }

  /**
   * The headers that sign a request. Each signature has a nonce of its own and works once.
   * @param {string} method
   * @param {string} url
   * @param {string} [body]
   * @returns {Record<string, string>}
   */
  sign(method, url, body) {
    const { pathname, search } = new URL(url);
    /** @type {Record<string, string>} */
    const headers = {};
    const covered = [['@method', method], ['@path', pathname]];
    if (search) covered.push(['@query', search]);
    if (body !== undefined) {
      headers['Content-Digest'] = `sha-256=:${createHash('sha256').update(body).digest('base64')}:`;
      covered.push(['content-digest', headers['Content-Digest']]);
    }
    const names = covered.map(([name]) => `"${name}"`).join(' ');
    const created = Math.floor(Date.now() / 1000);
    const nonce = randomBytes(16).toString('base64url');
    const parameters = `(${names});created=${created};nonce="${nonce}";keyid="${this.key.keyId}"`;
    const lines = [...covered, ['@signature-params', parameters]].map(([name, value]) => `"${name}": ${value}`);
    // The secret's text is the HMAC key as it stands; nothing is decoded.
    const signature = createHmac('sha256', this.key.secret).update(lines.join('\n')).digest('base64');
    headers['Signature-Input'] = `sig=${parameters}`;
    headers['Signature'] = `sig=:${signature}:`;
    return headers;
  }

  /**
   * Sends a query or a mutation and returns its data.
   * @template Result, Variables
   * @param {Document<Result, Variables>} document
   * @param {Variables} variables
   * @returns {Promise<Result>}
   */
  async run(document, variables) {
    const body = JSON.stringify({ query: document, variables });
    for (let attempt = 1; ; attempt++) {
      const headers = { 'Content-Type': 'application/json', ...this.sign('POST', this.url, body) };
      const response = await fetch(this.url, { method: 'POST', headers, body });
      if (response.status === 429 && attempt < ATTEMPTS_MAX) {
        await response.body?.cancel();
        await wait(response.headers.get('retry-after'));
        continue;
      }
      const answer = parse(await response.text());
      if (!answer) throw new Refused('INTERNAL', `the server answered ${response.status}`);
      check(answer.errors);
      return answer.data;
    }
  }

  /**
   * What a subscription says, to its end. After a broken connection it goes on with the state as it is then.
   * @template Result, Variables
   * @param {Document<Result, Variables>} document
   * @param {Variables} variables
   * @returns {AsyncGenerator<Result>}
   */
  async *subscribe(document, variables) {
    const agent = this;
    /** @type {{ status: number, retryAfter: string | null, body: string } | undefined} */
    let refusal;
    // The upgrade request is signed, each time anew. It says who we are, so `connection_init` has no payload.
    class SignedWebSocket extends WebSocket {
      /**
       * @param {string} url
       * @param {string | string[]} protocols
       */
      constructor(url, protocols) {
        super(url, protocols, { headers: agent.sign('GET', url) });
        this.on('unexpected-response', async (_, response) => {
          let body = '';
          for await (const chunk of response.setEncoding('utf8')) body += chunk;
          const retryAfter = response.headers['retry-after'] ?? null;
          refusal = { status: response.statusCode ?? 0, retryAfter, body };
          this.terminate();
        });
        this.on('open', () => (refusal = undefined));
      }
    }
    const client = createClient({
      url: 'ws' + this.url.slice('http'.length),
      webSocketImpl: SignedWebSocket,
      // A subscription that was refused for a while is repeated on the same connection.
      lazyCloseTimeout: 60_000,
      retryAttempts: ATTEMPTS_MAX,
      shouldRetry: () => !refusal || refusal.status === 429,
      retryWait: (retries) => (refusal ? wait(refusal.retryAfter) : sleep(Math.min(2 ** retries, 30) * 1000)),
    });
    const payload = { query: String(document), variables: /** @type {any} */ (variables) };
    try {
      for (let attempt = 1; ; attempt++) {
        try {
          for await (const event of client.iterate(payload)) {
            check(event.errors);
            yield /** @type {Result} */ (event.data);
          }
          return;
        } catch (error) {
          // Each operation is charged by itself, so this may be too early although the upgrade was not.
          const refused = asRefused(error, refusal);
          if (refused.code !== 'RATE_LIMITED' || attempt === ATTEMPTS_MAX) throw refused;
          await wait(refused.retryAfter);
        }
      }
    } finally {
      await client.dispose();
    }
  }
}

/**
 * Throws the first error of a GraphQL answer.
 * @param {readonly { message: string, extensions?: Record<string, unknown> | undefined }[] | undefined} errors
 */
function check(errors) {
  for (const { message, extensions } of errors ?? []) {
    throw new Refused(String(extensions?.code ?? 'INTERNAL'), message, extensions?.retryAfterSeconds);
  }
}

/**
 * Why a subscription has ended: by what the server says in it, by its answer to the upgrade, or by neither.
 * @param {unknown} error
 * @param {{ status: number, body: string } | undefined} refusal
 * @returns {Refused}
 */
function asRefused(error, refusal) {
  try {
    check(refusal ? parse(refusal.body)?.errors : Array.isArray(error) ? error : []);
  } catch (refused) {
    if (refused instanceof Refused) return refused;
  }
  if (error instanceof Refused) return error;
  return new Refused('INTERNAL', refusal ? `the upgrade was answered ${refusal.status}` : 'the connection broke');
}

/** @param {string} text */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    // Whoever stands between us and the server may answer with a page.
    return undefined;
  }
}

/**
 * Waits for as long as a refusal says. The next request is signed anew: a signature works once.
 * @param {unknown} retryAfter in seconds
 */
async function wait(retryAfter) {
  const seconds = Math.max(1, Number(retryAfter ?? 1));
  console.error(`RATE_LIMITED: trying again in ${seconds} s`);
  await sleep(seconds * 1000);
}

/**
 * Fetches a file by its URL, which needs no signature, and checks that it is whole.
 * @param {{ url: string, sha256: string }} output
 * @param {string} path
 */
async function download({ url, sha256 }, path) {
  const response = await fetch(url);
  if (!response.ok) throw new Refused('NOT_FOUND', `the download of ${path} was answered ${response.status}`);
  const bytes = new Uint8Array(await response.arrayBuffer());
  if (createHash('sha256').update(bytes).digest('hex') !== sha256) throw new Refused('INTERNAL', `${path} came damaged`);
  await writeFile(path, bytes);
}

/**
 * Converts the pictures; returns how many have no mesh.
 * @param {Agent} agent
 * @param {string[]} pictures
 * @param {string} out
 */
async function convert(agent, pictures, out) {
  const images = await Promise.all(pictures.map(async (picture) => ({ base64: await readFile(picture, 'base64') })));
  // With its key, a submission that is sent twice is one batch.
  const input = { images, options: { formats: [/** @type {const} */ ('GLB')] }, idempotencyKey: randomUUID() };
  const { submitBatch } = await agent.run(SUBMIT, { input });
  let failures = 0;
  /** @type {Map<string, string>} */
  const places = new Map();
  for (const { index, conversion, error } of submitBatch.items) {
    if (conversion) {
      places.set(conversion.id, pictures[index]);
    } else {
      failures++;
      console.error(`${pictures[index]}: ${error?.code}: ${error?.message}`);
    }
  }
  if (!submitBatch.batch) return failures;

  const { id } = submitBatch.batch;
  for await (const { batchProgress } of agent.subscribe(FOLLOW, { id })) {
    console.error(`${id}: ${Math.round(batchProgress.progress * 100)}%`);
  }
  await mkdir(out, { recursive: true });
  const { batch } = await agent.run(OUTPUTS, { id });
  for (const { id, status, error, outputs } of batch?.conversions ?? []) {
    const picture = places.get(id) ?? id;
    const output = outputs.find(({ format }) => format === 'GLB');
    if (!output) {
      failures++;
      console.error(`${picture}: ${error?.code ?? status}: ${error?.message ?? 'it has no mesh'}`);
      continue;
    }
    const path = join(out, basename(picture, extname(picture)) + '.glb');
    await download(output, path);
    console.log(`${picture} -> ${path}`);
  }
  return failures;
}

/** @param {string} name */
function setting(name) {
  const value = process.env[name];
  if (!value) throw new Error(`set ${name}`);
  return value;
}

try {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { out: { type: 'string', default: '.' } },
  });
  if (positionals.length === 0) throw new Error('usage: agent.mjs --out DIR PICTURE...');
  const key = JSON.parse(await readFile(setting('ORFEAS_KEY_FILE'), 'utf8'));
  const failures = await convert(new Agent(setting('ORFEAS_URL'), key), positionals, values.out);
  process.exitCode = failures ? 1 : 0;
} catch (error) {
  // fetch says what was wrong in the cause.
  const cause = error instanceof Error && error.cause instanceof Error ? `: ${error.cause.message}` : '';
  console.error(error instanceof Error ? error.message + cause : error);
  process.exitCode = 1;
}
