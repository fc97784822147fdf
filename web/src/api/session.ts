/** Who is signed in: a token, kept for this tab, or for this browser if the person asks for it. What an identity provider
 * gave is kept for the tab alone. */
import type { Grant } from "./credentials";

const NAME = "orfeas.token";
/** Beside the token: when it ends, and how to get the next one. */
const GRANT = "orfeas.grant";
/** A sign-in that was begun and whose answer is awaited. */
const PENDING = "orfeas.pending";
/** Set by whoever signed out: the next one is asked who they are. */
const LEFT = "orfeas.left";

/** A place that may be closed to us, as in a browser that keeps nothing. */
function quietly<T>(work: () => T, otherwise: T): T {
  try {
    return work();
  } catch {
    return otherwise;
  }
}

export function storedToken(): string | null {
  return quietly(() => sessionStorage.getItem(NAME) ?? localStorage.getItem(NAME), null);
}

export function isKept(): boolean {
  return quietly(() => localStorage.getItem(NAME) !== null, false);
}

export function storeToken(token: string, keep: boolean): void {
  quietly(() => {
    sessionStorage.setItem(NAME, token);
    sessionStorage.removeItem(GRANT);
    if (keep) localStorage.setItem(NAME, token);
    else localStorage.removeItem(NAME);
  }, undefined);
}

export function forgetToken(): void {
  quietly(() => {
    sessionStorage.removeItem(NAME);
    sessionStorage.removeItem(GRANT);
    localStorage.removeItem(NAME);
  }, undefined);
}

export function storeGrant(grant: Grant): void {
  storeToken(grant.token, false);
  quietly(() => {
    sessionStorage.setItem(GRANT, JSON.stringify(grant));
    sessionStorage.removeItem(LEFT);
  }, undefined);
}

/** What an identity provider gave in this tab. */
export function storedGrant(): Grant | null {
  return quietly(() => JSON.parse(sessionStorage.getItem(GRANT) ?? "null") as Grant | null, null);
}

export function rememberLeaving(): void {
  quietly(() => sessionStorage.setItem(LEFT, "1"), undefined);
}

export function hasLeft(): boolean {
  return quietly(() => sessionStorage.getItem(LEFT) !== null, false);
}

export interface Pending {
  readonly state: string;
  readonly nonce: string;
  readonly verifier: string;
  readonly place: string;
}

/** Whether it could be stored. */
export function storePending(pending: Pending): boolean {
  return quietly(() => {
    sessionStorage.setItem(PENDING, JSON.stringify(pending));
    return true;
  }, false);
}

/** A pending sign-in counts once. */
export function takePending(): Pending | null {
  return quietly(() => {
    const text = sessionStorage.getItem(PENDING);
    sessionStorage.removeItem(PENDING);
    return JSON.parse(text ?? "null") as Pending | null;
  }, null);
}

/** `Authorization: Bearer x`, `Bearer x` and `x` are the same to somebody who pastes. */
export function cleanToken(text: string): string {
  return text.trim().replace(/^authorization:\s*/i, "").replace(/^bearer\s+/i, "").replace(/\s+/g, "");
}

/** The token of a link that `orfeas serve` printed; it is taken out of the address at once. */
export function takeTokenFromAddress(): string | null {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token === null) return null;
  history.replaceState(null, "", location.pathname + location.search);
  return cleanToken(token);
}
