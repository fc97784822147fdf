/** What the whole studio knows: who is signed in, where one is, what the server said. */
import { computed, signal } from "@preact/signals";
import type { Connection, LinkState } from "../api/client";
import { ViewerDocument as Viewer } from "../generated/graphql";
import { asFailure } from "../api/errors";
import type { Failure } from "../api/errors";
import { forgetToken } from "../api/session";
import type { ViewerQuery } from "../generated/graphql";

export type Person = ViewerQuery["viewer"];
export type Model = ViewerQuery["models"][number];

export const connection = signal<Connection | null>(null);
export const person = signal<Person | null>(null);
export const models = signal<readonly Model[]>([]);
export const link = signal<LinkState>("closed");
/** Set while the sign-in page has something to explain. */
export const signInFailure = signal<Failure | null>(null);
export const isSigningIn = signal(false);

export const isAdmin = computed(() => person.value?.permissions.includes("ADMIN") ?? false);

export interface Notice {
  readonly id: number;
  readonly kind: "info" | "error";
  readonly title: string;
  readonly text: string;
}

export const notices = signal<readonly Notice[]>([]);
let lastNotice = 0;

export function dismiss(id: number): void {
  notices.value = notices.value.filter((notice) => notice.id !== id);
}

export function notify(kind: Notice["kind"], title: string, text = ""): void {
  lastNotice += 1;
  const id = lastNotice;
  notices.value = [...notices.value.slice(-3), { id, kind, title, text }];
  setTimeout(() => dismiss(id), kind === "error" ? 12_000 : 5_000);
}

export function notifyFailure(error: unknown): void {
  const failure = asFailure(error);
  if (failure.code === "UNAUTHENTICATED") return;
  notify("error", failure.title, [failure.message, failure.advice].filter(Boolean).join(" "));
}

/** Runs something that may fail; what fails is told, and comes to nothing. */
export async function attempt<T>(work: () => Promise<T>): Promise<T | null> {
  try {
    return await work();
  } catch (error) {
    notifyFailure(error);
    return null;
  }
}

export function api(): Connection {
  if (connection.value === null) throw new Error("Nobody is signed in.");
  return connection.value;
}

const leavers: (() => void)[] = [];

/** Has something done when the person leaves, so that the next finds nothing of theirs. */
export function onSignOut(work: () => void): void {
  leavers.push(work);
}

export function signOut(): void {
  forgetToken();
  connection.value?.close();
  connection.value = null;
  person.value = null;
  link.value = "closed";
  for (const leave of leavers) leave();
}

export async function refreshPerson(): Promise<void> {
  const { viewer, models: offered } = await api().run(Viewer, {});
  person.value = viewer;
  models.value = offered;
}
