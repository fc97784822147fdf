/** Signing in at an identity provider: OpenID Connect's authorization code with PKCE, as a public client. Loaded when it
 * is needed. */
import * as oauth from "oauth4webapi";
import type { Grant } from "./credentials";
import { Failure } from "./errors";
import { storePending, takePending } from "./session";

/** As the server's `/sign-in.json` tells it. */
export interface Provider {
  readonly issuer: string;
  readonly clientId: string;
  readonly scopes: string;
  readonly audience: string | null;
}

/** Where the provider sends people back to; it must be registered there. */
const RETURN_PATH = "/signed-in";

function refused(text: string): Failure {
  return new Failure("PROVIDER", text, false, null, null);
}

/** What the library throws, as something that a person can read. */
function failureOf(error: unknown): Failure {
  if (error instanceof Failure) return error;
  if (error instanceof oauth.AuthorizationResponseError || error instanceof oauth.ResponseBodyError) {
    const why = error.error_description ? `${error.error}: ${error.error_description}` : error.error;
    return refused(`It said “${why}”.`);
  }
  // What `fetch` throws when nothing comes back, or the page may not read it.
  if (error instanceof TypeError) {
    return new Failure("NETWORK", "The identity provider did not answer this page.", true, null, null);
  }
  return refused(`Its answer can't be used: ${error instanceof Error ? error.message : String(error)}.`);
}

function redirectUri(): string {
  return new URL(RETURN_PATH, location.origin).href;
}

/** Plain HTTP is for a provider on this machine alone; the server takes no other. */
function insecurely(provider: Provider): { [oauth.allowInsecureRequests]: boolean } {
  return { [oauth.allowInsecureRequests]: provider.issuer.startsWith("http://") };
}

/** What says for whom the token is to be: RFC 8707's `resource`, which is a URL, and what others call `audience`. */
function target({ audience }: Provider): Record<string, string> {
  if (audience === null) return {};
  return URL.canParse(audience) ? { resource: audience, audience } : { audience };
}

const known = new Map<string, Promise<oauth.AuthorizationServer>>();

async function ask(provider: Provider): Promise<oauth.AuthorizationServer> {
  const issuer = new URL(provider.issuer);
  const answer = await oauth.discoveryRequest(issuer, insecurely(provider));
  return oauth.processDiscoveryResponse(issuer, answer);
}

/** What the provider says of itself, asked once a page. */
async function discover(provider: Provider): Promise<oauth.AuthorizationServer> {
  const asked = known.get(provider.issuer) ?? ask(provider);
  known.set(provider.issuer, asked);
  try {
    return await asked;
  } catch (error) {
    known.delete(provider.issuer);
    throw error;
  }
}

function grantOf(tokens: oauth.TokenEndpointResponse, before: Grant | null): Grant {
  const { access_token: token, expires_in: lasts, refresh_token: next } = tokens;
  if (token.split(".").length !== 3) {
    const how = "Whoever runs it sets ORFEAS_JWT_AUDIENCE to an API that the provider knows.";
    throw refused(`It gave a token that only the provider can read, and not this server. ${how}`);
  }
  return {
    token,
    expiresAt: lasts === undefined ? null : Date.now() + lasts * 1000,
    refreshToken: next ?? before?.refreshToken ?? null,
  };
}

/** What the provider must ask the person. Many give a refresh token only to who has just agreed to it. */
function prompt({ scopes }: Provider, again: boolean): Record<string, string> {
  const asked = [...(again ? ["login"] : []), ...(scopes.split(" ").includes("offline_access") ? ["consent"] : [])];
  return asked.length === 0 ? {} : { prompt: asked.join(" ") };
}

/** Leaves for the provider's page. `place` is where to come back to; `again`: have it ask who is there. */
export async function begin(provider: Provider, place: string, again: boolean): Promise<void> {
  try {
    if (!isSecureContext) throw refused("This page came over plain HTTP, where browsers don't let it sign in. Use https.");
    const server = await discover(provider);
    if (server.authorization_endpoint === undefined) throw refused("It names no page to sign in at.");
    const verifier = oauth.generateRandomCodeVerifier();
    const pending = { state: oauth.generateRandomState(), nonce: oauth.generateRandomNonce(), verifier, place };
    const address = new URL(server.authorization_endpoint);
    const asked = {
      response_type: "code",
      client_id: provider.clientId,
      redirect_uri: redirectUri(),
      scope: provider.scopes,
      state: pending.state,
      nonce: pending.nonce,
      code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
      code_challenge_method: "S256",
      ...target(provider),
      ...prompt(provider, again),
    };
    for (const [name, value] of Object.entries(asked)) address.searchParams.set(name, value);
    if (!storePending(pending)) throw refused("This browser keeps nothing for this page, so it can't come back to it.");
    location.assign(address);
  } catch (error) {
    throw failureOf(error);
  }
}

/** Reads the address that the provider has sent the person back to. Each answer counts once, in the tab that asked. */
export async function finish(provider: Provider, address: URL): Promise<{ grant: Grant; place: string }> {
  const pending = takePending();
  try {
    if (pending === null) throw refused("No sign-in was begun in this tab, or it was ended already. Begin again.");
    const server = await discover(provider);
    const client: oauth.Client = { client_id: provider.clientId };
    const parameters = oauth.validateAuthResponse(server, client, address, pending.state);
    const answer = await oauth.authorizationCodeGrantRequest(
      server,
      client,
      oauth.None(),
      parameters,
      redirectUri(),
      pending.verifier,
      { ...insecurely(provider), additionalParameters: target(provider) },
    );
    const checks = { expectedNonce: pending.nonce, requireIdToken: true };
    const tokens = await oauth.processAuthorizationCodeResponse(server, client, answer, checks);
    return { grant: grantOf(tokens, null), place: pending.place };
  } catch (error) {
    throw failureOf(error);
  }
}

/** The next token for a grant that has a refresh token. */
export async function renew(provider: Provider, grant: Grant): Promise<Grant> {
  try {
    const server = await discover(provider);
    const client: oauth.Client = { client_id: provider.clientId };
    const options = { ...insecurely(provider), additionalParameters: target(provider) };
    const answer = await oauth.refreshTokenGrantRequest(server, client, oauth.None(), grant.refreshToken ?? "", options);
    return grantOf(await oauth.processRefreshTokenResponse(server, client, answer), grant);
  } catch (error) {
    throw failureOf(error);
  }
}

/** Tells the provider that a refresh token isn't needed any more. What it answers changes nothing here. */
export async function revoke(provider: Provider, refreshToken: string): Promise<void> {
  const server = await discover(provider);
  if (server.revocation_endpoint === undefined) return;
  await oauth.revocationRequest(server, { client_id: provider.clientId }, oauth.None(), refreshToken, insecurely(provider));
}
