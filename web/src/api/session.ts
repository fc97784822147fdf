/** Who is signed in: a token, kept for this tab, or for this browser if the person asks for it. */
const NAME = "orfeas.token";

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
    if (keep) localStorage.setItem(NAME, token);
    else localStorage.removeItem(NAME);
  }, undefined);
}

export function forgetToken(): void {
  quietly(() => {
    sessionStorage.removeItem(NAME);
    localStorage.removeItem(NAME);
  }, undefined);
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
