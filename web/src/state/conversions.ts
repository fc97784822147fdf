/** The conversions that are on the screen, kept up to date while they run. */
import { batch, signal } from "@preact/signals";
import { CancelConversionDocument as CancelConversion, ConversionByIdDocument as ConversionById, ConversionsDocument as Conversions, DeleteConversionDocument as DeleteConversion, FollowConversionDocument as FollowConversion, RetryConversionDocument as RetryConversion } from "../generated/graphql";
import type { ConversionPartsFragment, ConversionStatus } from "../generated/graphql";
import { api, attempt, onSignOut, refreshPerson } from "./app";

export type Conversion = ConversionPartsFragment;
export type Filter = "all" | "active" | "done" | "failed";

const STATES: Record<Filter, readonly ConversionStatus[] | null> = {
  all: null,
  active: ["QUEUED", "RUNNING"],
  done: ["SUCCEEDED"],
  failed: ["FAILED", "CANCELED"],
};

const PAGE = 24;

/** All that is known, by id. */
export const known = signal<ReadonlyMap<string, Conversion>>(new Map());
/** The gallery, newest first. */
export const listed = signal<readonly string[]>([]);
export const filter = signal<Filter>("all");
export const cursor = signal<string | null>(null);
export const isLoading = signal(false);
export const hasLoaded = signal(false);

const followed = new Map<string, () => void>();
let generation = 0;

onSignOut(() => {
  for (const stop of followed.values()) stop();
  followed.clear();
  generation += 1;
  batch(() => {
    known.value = new Map();
    listed.value = [];
    cursor.value = null;
    filter.value = "all";
    isLoading.value = false;
    hasLoaded.value = false;
  });
});

export function hasEnded(status: ConversionStatus): boolean {
  return status === "SUCCEEDED" || status === "FAILED" || status === "CANCELED";
}

function fits(conversion: Conversion): boolean {
  return STATES[filter.value]?.includes(conversion.status) ?? true;
}

/** Takes in what the server says of conversions; an older answer doesn't replace a newer one. */
export function learn(conversions: readonly Conversion[]): void {
  const next = new Map(known.value);
  for (const conversion of conversions) {
    const before = next.get(conversion.id);
    if (before === undefined || before.sequence <= conversion.sequence) next.set(conversion.id, conversion);
  }
  known.value = next;
  for (const { id, status } of conversions) if (!hasEnded(status)) followProgress(id);
}

/** Puts new ones at the top of the gallery. */
export function prepend(conversions: readonly Conversion[]): void {
  learn(conversions);
  const fresh = conversions.filter((one) => fits(one) && !listed.value.includes(one.id)).map((one) => one.id);
  listed.value = [...fresh, ...listed.value];
}

function change(id: string, parts: Partial<Conversion>): void {
  const before = known.value.get(id);
  if (before === undefined) return;
  known.value = new Map(known.value).set(id, { ...before, ...parts });
}

function followProgress(id: string): void {
  if (followed.has(id)) return;
  const stop = api().follow(
    FollowConversion,
    // From the last step that is known here, so that none is missed between asking and following, or in a break.
    () => ({ id, after: known.value.get(id)?.sequence ?? null }),
    ({ conversionProgress: { status, stage, progress, etaSeconds, sequence, preview, draft } }) => {
      const before = known.value.get(id);
      if (before === undefined || before.sequence > sequence) return;
      // What only the whole conversion tells (its files, its error) comes when it has ended.
      const coarse = draft ? { url: draft } : null;
      if (!hasEnded(status)) change(id, { status, stage, progress, etaSeconds, sequence, preview: preview ?? coarse ?? before.preview });
    },
    () => {
      followed.delete(id);
      void look(id).then(() => refreshPerson().catch(() => undefined));
    },
  );
  followed.set(id, stop);
}

/** Asks for one conversion; null when there is none. */
export async function look(id: string): Promise<Conversion | null> {
  const found = await attempt(() => api().run(ConversionById, { id }));
  if (found?.conversion) learn([found.conversion]);
  return found?.conversion ?? null;
}

async function load(after: string | null, mine: number): Promise<void> {
  isLoading.value = true;
  const status = STATES[filter.value];
  const answer = await attempt(() =>
    api().run(Conversions, { first: PAGE, after, filter: status === null ? null : { status: [...status] } }),
  );
  // Another filter was chosen meanwhile.
  if (mine !== generation) return;
  batch(() => {
    isLoading.value = false;
    hasLoaded.value = true;
    if (answer === null) return;
    const { nodes, pageInfo } = answer.conversions;
    learn(nodes);
    const before = after === null ? [] : listed.value;
    listed.value = [...before, ...nodes.map((node) => node.id).filter((id) => !before.includes(id))];
    cursor.value = pageInfo.hasNextPage ? (pageInfo.endCursor ?? null) : null;
  });
}

export async function loadFirst(): Promise<void> {
  generation += 1;
  await load(null, generation);
}

export async function loadMore(): Promise<void> {
  if (cursor.value !== null && !isLoading.value) await load(cursor.value, generation);
}

export async function choose(next: Filter): Promise<void> {
  if (next === filter.value) return;
  batch(() => {
    filter.value = next;
    listed.value = [];
    cursor.value = null;
    hasLoaded.value = false;
  });
  await loadFirst();
}

export async function cancel(id: string): Promise<void> {
  const answer = await attempt(() => api().run(CancelConversion, { id }));
  if (answer !== null) learn([answer.cancelConversion.conversion]);
}

export async function retry(id: string): Promise<Conversion | null> {
  const answer = await attempt(() => api().run(RetryConversion, { id }));
  if (answer === null) return null;
  prepend([answer.retryConversion.conversion]);
  return answer.retryConversion.conversion;
}

/** Whether it is gone. */
export async function remove(id: string): Promise<boolean> {
  const answer = await attempt(() => api().run(DeleteConversion, { id }));
  if (answer === null) return false;
  followed.get(id)?.();
  followed.delete(id);
  listed.value = listed.value.filter((other) => other !== id);
  const next = new Map(known.value);
  next.delete(id);
  known.value = next;
  void refreshPerson().catch(() => undefined);
  return true;
}
