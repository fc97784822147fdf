/** How one gets in and out: by a token, by a link that holds one, or through an identity provider. */
import { signal } from "@preact/signals";
import { connect } from "../api/client";
import { Credentials } from "../api/credentials";
import type { Grant, Renewal } from "../api/credentials";
import { Failure, asFailure } from "../api/errors";
import type { Provider } from "../api/provider";
import { forgetToken, hasLeft, isKept, rememberLeaving, storeGrant, storeToken, storedGrant, storedToken, takeTokenFromAddress } from "../api/session";
import { connection, isSigningIn, link, person, refreshPerson, signInFailure, signOut } from "./app";
import { go, route } from "./route";

/** Who signs people in here; undefined until the server has said so, null when it is nobody. */
export const provider = signal<Provider | null | undefined>(undefined);

/** What is used to ask the server, of whoever is in. */
let current: Credentials | null = null;

async function theProvider(): Promise<Provider | null> {
  if (provider.value !== undefined) return provider.value;
  let answer: Response;
  try {
    answer = await fetch("/sign-in.json");
  } catch {
    throw new Failure("NETWORK", "No answer came from the server.", true, null, null);
  }
  const told = answer.ok ? ((await answer.json()) as { provider: Provider | null }) : null;
  provider.value = told?.provider ?? null;
  return provider.value;
}

/** Asks who signs people in; without an answer there are tokens. */
export async function lookForProvider(): Promise<void> {
  await theProvider().catch(() => null);
}

async function demandedProvider(): Promise<Provider> {
  const found = await theProvider();
  if (found !== null) return found;
  throw new Failure("PROVIDER", "This server has no identity provider any more.", false, null, null);
}

async function enter(credentials: Credentials, keep: () => void): Promise<void> {
  isSigningIn.value = true;
  signInFailure.value = null;
  const opened = connect(credentials, {
    onSignedOut: () => {
      if (connection.value === opened && person.value !== null) end();
    },
    onLink: (state) => {
      if (connection.value === opened) link.value = state;
    },
  });
  connection.value = opened;
  current = credentials;
  try {
    await refreshPerson();
    keep();
  } catch (error) {
    const failure = asFailure(error);
    opened.close();
    connection.value = null;
    current = null;
    // A server that can't be reached says nothing about the token.
    if (failure.code !== "NETWORK") forgetToken();
    signInFailure.value = failure;
  } finally {
    isSigningIn.value = false;
  }
}

/** What somebody reads whose sign-in has ended by itself. */
export const ENDED = "Your sign-in has ended.";

/** The sign-in has ended by itself. */
function end(): void {
  signOut();
  current = null;
  signInFailure.value = new Failure("UNAUTHENTICATED", ENDED, false, null, null);
}

export async function signIn(token: string, keep: boolean): Promise<void> {
  const grant = { token, expiresAt: null, refreshToken: null };
  await enter(new Credentials(grant), () => storeToken(token, keep));
}

const renewal: Renewal = {
  async renew(grant) {
    const { renew } = await import("../api/provider");
    return renew(await demandedProvider(), grant);
  },
  onRenewed(grant) {
    storeGrant(grant);
    connection.value?.reauthenticate();
  },
  onRefused: end,
};

async function enterBy(grant: Grant): Promise<void> {
  await enter(new Credentials(grant, renewal), () => storeGrant({ ...grant, token: current?.token ?? grant.token }));
  const failure = signInFailure.value;
  if (failure?.code !== "UNAUTHENTICATED") return;
  const text = `This server does not take the token that it gave. ${failure.message}`;
  signInFailure.value = new Failure("PROVIDER", text, false, null, null);
}

/** Leaves for the identity provider's page. */
export async function signInAtProvider(): Promise<void> {
  isSigningIn.value = true;
  signInFailure.value = null;
  try {
    const { begin } = await import("../api/provider");
    await begin(await demandedProvider(), location.pathname, hasLeft());
  } catch (error) {
    signInFailure.value = asFailure(error);
    isSigningIn.value = false;
  }
}

/** Comes back from it. */
async function returnFromProvider(): Promise<void> {
  const address = new URL(location.href);
  // The answer is in the address: it counts once, and is in nobody's way after that.
  history.replaceState(null, "", "/");
  go("/");
  try {
    const { finish } = await import("../api/provider");
    const { grant, place } = await finish(await demandedProvider(), address);
    await enterBy(grant);
    history.replaceState(null, "", place);
    go(place);
  } catch (error) {
    signInFailure.value = asFailure(error);
  }
}

/** Signs out because the person wants to: what an identity provider gave ends, too. */
export async function leave(): Promise<void> {
  const refreshToken = current?.refreshToken ?? null;
  const isOfProvider = storedGrant() !== null;
  signOut();
  current = null;
  if (!isOfProvider) return;
  rememberLeaving();
  if (refreshToken === null) return;
  const { revoke } = await import("../api/provider");
  await revoke(await demandedProvider(), refreshToken).catch(() => undefined);
}

async function enterBySomething(): Promise<void> {
  if (route.value.page === "signed-in") return returnFromProvider();
  const fromAddress = takeTokenFromAddress();
  if (fromAddress !== null && fromAddress !== "") return signIn(fromAddress, false);
  const grant = storedGrant();
  if (grant !== null) return enterBy(grant);
  const token = storedToken();
  if (token !== null && token !== "") await signIn(token, isKept());
}

/** Signs in by what the address holds, or by what was kept of last time. Who stays outside sees all ways in at once. */
export async function resume(): Promise<void> {
  // A link that is opened where the studio is open already changes the address alone.
  addEventListener("hashchange", () => {
    const token = takeTokenFromAddress();
    if (token === null) return;
    if (person.value !== null) signOut();
    void signIn(token, false);
  });
  await enterBySomething();
  if (person.value === null) await lookForProvider();
}
