import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { cleanToken } from "../api/session";
import { isSigningIn, signIn, signInFailure } from "../state/app";

export function SignInPage(): JSX.Element {
  const [text, setText] = useState("");
  const [keep, setKeep] = useState(false);
  const failure = signInFailure.value;
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
            aria-invalid={failure !== null}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </label>
        <label class="check">
          <input type="checkbox" checked={keep} onChange={(event) => setKeep(event.currentTarget.checked)} />
          <span>Keep me signed in on this device</span>
        </label>
        {failure !== null && (
          <p class="problem" role="alert">
            <strong>{failure.code === "UNAUTHENTICATED" ? "This token doesn't count" : failure.title}</strong>
            <br />
            {failure.message}
          </p>
        )}
        <button type="submit" class="primary" disabled={isSigningIn.value}>
          {isSigningIn.value ? "Signing in …" : "Sign in"}
        </button>
        <div id="token-help" class="help">
          <p>
            Your own server? <code>orfeas serve</code> prints a link that signs you in with one click, and{" "}
            <code>orfeas token --user NAME</code> makes tokens. Otherwise ask whoever runs it.
          </p>
        </div>
      </form>
    </main>
  );
}
