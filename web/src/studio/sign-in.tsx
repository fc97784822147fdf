import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Failure } from "../api/errors";
import { cleanToken } from "../api/session";
import { isSigningIn, signInFailure } from "../state/app";
import { ENDED, lookForProvider, provider, signIn, signInAtProvider } from "../state/sign-in";

/** Whether the browser and the server are on one machine, as far as the address tells. */
function isHere(): boolean {
  return /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(location.hostname);
}

function titleOf(failure: Failure): string {
  if (failure.code !== "UNAUTHENTICATED") return failure.title;
  return failure.message === ENDED ? "Please sign in again" : "This token doesn't count";
}

/** The button that leaves for the identity provider's page. */
function AtProvider({ issuer }: { issuer: string }): JSX.Element {
  return (
    <>
      <button type="button" class="primary wide" disabled={isSigningIn.value} onClick={() => void signInAtProvider()}>
        {isSigningIn.value ? "Signing in …" : `Sign in at ${new URL(issuer).host}`}
      </button>
      <p class="or muted">or with a token</p>
    </>
  );
}

export function SignInPage(): JSX.Element {
  const [text, setText] = useState("");
  const [keep, setKeep] = useState(false);
  const failure = signInFailure.value;
  const atProvider = provider.value;
  useEffect(() => void lookForProvider(), []);
  const submit = (event: Event): void => {
    event.preventDefault();
    const token = cleanToken(text);
    if (token !== "") void signIn(token, keep);
  };
  return (
    <main id="main" class="sign-in">
      <section class="pitch">
        <h1>
          A picture in.
          <br />A 3D mesh out.
        </h1>
        <p class="lead">
          Drop photos or renders of an object; take away GLB, OBJ, STL, PLY or 3MF. Everything runs on this server, and
          nothing leaves it.
        </p>
      </section>
      <form class="sheet" onSubmit={submit} aria-labelledby="sign-in-title">
        <h2 id="sign-in-title">Sign in</h2>
        {failure !== null && (
          <p class="problem" role="alert">
            <strong>{titleOf(failure)}</strong>
            <br />
            {failure.message}
          </p>
        )}
        {isHere() && (
          <p class="problem mild">
            Is this your own server? The terminal that runs it shows a link: <strong>one click on it signs you in.</strong>
          </p>
        )}
        {atProvider && <AtProvider issuer={atProvider.issuer} />}
        <label class="field">
          <span>Access token</span>
          <input
            type="password"
            name="token"
            autocomplete="off"
            spellcheck={false}
            required
            value={text}
            aria-describedby="token-help"
            aria-invalid={failure !== null && failure.code !== "PROVIDER"}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </label>
        <label class="check">
          <input type="checkbox" checked={keep} onChange={(event) => setKeep(event.currentTarget.checked)} />
          <span>Keep me signed in on this device</span>
        </label>
        <button type="submit" class={atProvider ? "" : "primary"} disabled={isSigningIn.value}>
          {isSigningIn.value ? "Signing in …" : "Sign in"}
        </button>
        <div id="token-help" class="help">
          <p>
            Whoever runs this server makes tokens and links: <code>orfeas token --user NAME --link</code>
          </p>
        </div>
      </form>
    </main>
  );
}
