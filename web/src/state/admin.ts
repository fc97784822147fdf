/** What an admin watches: the queue as it changes, the nodes every few seconds. */
import { signal } from "@preact/signals";
import { AuditTrailDocument as AuditTrail, CreateKeyDocument as CreateKey, ListKeysDocument as Keys, RevokeKeyDocument as RevokeKey, RotateKeyDocument as RotateKey } from "../generated/graphql";
import { FollowQueueDocument as FollowQueue, ListNodesDocument as Nodes, PauseQueueDocument as PauseQueue, ResumeQueueDocument as ResumeQueue } from "../generated/graphql";
import type { AuditTrailQuery, CreateApiKeyInput, KeyPartsFragment, ListNodesQuery, QueuePartsFragment } from "../generated/graphql";
import { asFailure } from "../api/errors";
import { api, attempt, notify, notifyFailure, onSignOut } from "./app";

export type ServerNode = ListNodesQuery["nodes"][number];
export type Key = KeyPartsFragment;
export type AuditEvent = AuditTrailQuery["auditEvents"]["nodes"][number];

const NODES_EVERY = 5_000;

export const queue = signal<QueuePartsFragment | null>(null);
export const nodes = signal<readonly ServerNode[]>([]);
export const keys = signal<readonly Key[]>([]);
export const events = signal<readonly AuditEvent[]>([]);
export const eventsCursor = signal<string | null>(null);
/** Shown once, and nowhere kept. */
export const secret = signal<{ key: Key; secret: string } | null>(null);

onSignOut(() => {
  queue.value = null;
  nodes.value = [];
  keys.value = [];
  events.value = [];
  eventsCursor.value = null;
  secret.value = null;
});

/** Watches until the returned function is called. */
export function watchServer(): () => void {
  const lookAtNodes = (): void => {
    if (document.hidden) return;
    const looked = api().run(Nodes, {}).then((answer) => {
      nodes.value = answer.nodes;
    });
    // The banner tells of a lost connection, once.
    void looked.catch((error) => asFailure(error).code === "NETWORK" || notifyFailure(error));
  };
  lookAtNodes();
  const timer = setInterval(lookAtNodes, NODES_EVERY);
  const stop = api().follow(
    FollowQueue,
    () => ({}),
    ({ queueStatus }) => {
      queue.value = queueStatus;
    },
    (failure) => failure !== null && notifyFailure(failure),
  );
  return () => {
    clearInterval(timer);
    stop();
  };
}

export async function setPaused(isPaused: boolean): Promise<void> {
  await attempt(async () => {
    queue.value = isPaused
      ? (await api().run(PauseQueue, {})).pauseQueue
      : (await api().run(ResumeQueue, {})).resumeQueue;
  });
}

export async function loadKeys(): Promise<void> {
  await attempt(async () => {
    const found: Key[] = [];
    let after: string | null = null;
    do {
      const { apiKeys }: { apiKeys: { nodes: Key[]; pageInfo: { endCursor?: string | null; hasNextPage: boolean } } } =
        await api().run(Keys, { after });
      found.push(...apiKeys.nodes);
      after = apiKeys.pageInfo.hasNextPage ? (apiKeys.pageInfo.endCursor ?? null) : null;
    } while (after !== null);
    keys.value = found;
  });
}

function replace(key: Key): void {
  keys.value = keys.value.map((other) => (other.id === key.id ? key : other));
}

/** Whether it was made. */
export async function createKey(input: CreateApiKeyInput): Promise<boolean> {
  const answer = await attempt(() => api().run(CreateKey, { input }));
  if (answer === null) return false;
  const { apiKey, secret: text } = answer.createApiKey;
  keys.value = [apiKey, ...keys.value];
  secret.value = { key: apiKey, secret: text };
  return true;
}

export async function rotateKey(id: string): Promise<void> {
  const answer = await attempt(() => api().run(RotateKey, { id }));
  if (answer === null) return;
  const { apiKey, secret: text } = answer.rotateApiKey;
  replace(apiKey);
  secret.value = { key: apiKey, secret: text };
}

export async function revokeKey(id: string): Promise<void> {
  const answer = await attempt(() => api().run(RevokeKey, { id }));
  if (answer === null) return;
  replace(answer.revokeApiKey.apiKey);
  notify("info", "The key is revoked", "It counts nowhere any more.");
}

export async function loadEvents(isMore: boolean): Promise<void> {
  const answer = await attempt(() => api().run(AuditTrail, { after: isMore ? eventsCursor.value : null }));
  if (answer === null) return;
  const { nodes: found, pageInfo } = answer.auditEvents;
  events.value = isMore ? [...events.value, ...found] : found;
  eventsCursor.value = pageInfo.hasNextPage ? (pageInfo.endCursor ?? null) : null;
}
