import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Permission } from "../generated/graphql";
import { createKey, keys, loadKeys, revokeKey, rotateKey, secret } from "../state/admin";
import type { Key } from "../state/admin";
import { notify } from "../state/app";
import { Confirm } from "./confirm";
import { ago, when } from "./words";

const PERMISSIONS: readonly [Permission, string][] = [
  ["SUBMIT", "submit"],
  ["BATCH", "batches"],
  ["READ", "read"],
  ["CANCEL", "cancel and delete"],
  ["ADMIN", "admin"],
];

function permissionText(key: Key): string {
  return PERMISSIONS.filter(([name]) => key.permissions.includes(name))
    .map(([, text]) => text)
    .join(", ");
}

function quotaText({ quotas }: Key): string {
  const { requestsPerMinute, conversionsAtOnce, conversionsPerDay, imagesPerBatch } = quotas;
  return [
    `${requestsPerMinute} requests a minute`,
    `${conversionsAtOnce ?? "any number of"} conversions at once`,
    `${conversionsPerDay ?? "any number"} a day`,
    `${imagesPerBatch} pictures a batch`,
  ].join(", ");
}

function stateText(key: Key): string {
  if (key.revokedAt) return `revoked ${ago(key.revokedAt)}`;
  if (key.expiresAt) return Date.parse(key.expiresAt) < Date.now() ? "ended" : `ends ${when(key.expiresAt)}`;
  return key.lastUsedAt ? `used ${ago(key.lastUsedAt)}` : "never used";
}

function Secret(): JSX.Element | null {
  if (secret.value === null) return null;
  const { key, secret: text } = secret.value;
  const copy = (): void => {
    const done = (): void => notify("info", "Copied");
    void navigator.clipboard?.writeText(text).then(done, () => notify("error", "Copy it by hand"));
  };
  return (
    <div class="secret" role="status">
      <p>
        <strong>{`The secret of “${key.name}”, shown this once.`}</strong> Put it where the program reads it.
      </p>
      <dl>
        <dt>Key id</dt>
        <dd><code>{key.id}</code></dd>
        <dt>Secret</dt>
        <dd><code>{text}</code></dd>
      </dl>
      <div class="row">
        <button type="button" onClick={copy}>Copy the secret</button>
        <button type="button" onClick={() => (secret.value = null)}>I have it</button>
      </div>
    </div>
  );
}

function numberOf(form: FormData, name: string): number | null {
  const text = String(form.get(name) ?? "").trim();
  return text === "" ? null : Number(text);
}

function NewKey({ onDone }: { onDone(): void }): JSX.Element {
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const days = numberOf(form, "days");
    void createKey({
      name: String(form.get("name")),
      permissions: PERMISSIONS.map(([name]) => name).filter((name) => form.has(name)),
      requestsPerMinute: numberOf(form, "perMinute"),
      conversionsAtOnce: numberOf(form, "atOnce"),
      conversionsPerDay: numberOf(form, "perDay"),
      expiresAt: days === null ? null : new Date(Date.now() + days * 86_400_000).toISOString(),
    }).then((isMade) => isMade && onDone());
  };
  return (
    <form class="new-key" onSubmit={submit}>
      <div class="fields">
        <label class="field full">
          <span>Name</span>
          <input name="name" required maxLength={100} placeholder="nightly robot" />
        </label>
        <label class="field">
          <span>Requests a minute</span>
          <input name="perMinute" type="number" min="1" placeholder="the server's default" />
        </label>
        <label class="field">
          <span>Conversions at once</span>
          <input name="atOnce" type="number" min="1" placeholder="the server's default" />
        </label>
        <label class="field">
          <span>Conversions a day</span>
          <input name="perDay" type="number" min="1" placeholder="the server's default" />
        </label>
        <label class="field">
          <span>Ends after days</span>
          <input name="days" type="number" min="1" placeholder="never" />
        </label>
      </div>
      <fieldset>
        <legend>May</legend>
        <div class="chips">
          {PERMISSIONS.map(([name, text]) => (
            <label key={name} class="chip">
              <input type="checkbox" name={name} defaultChecked={name !== "ADMIN"} />
              <span>{text}</span>
            </label>
          ))}
        </div>
      </fieldset>
      <div class="row">
        <button type="submit" class="primary">Make the key</button>
        <button type="button" onClick={onDone}>Never mind</button>
      </div>
    </form>
  );
}

export function KeyList(): JSX.Element {
  const [isMaking, setMaking] = useState(false);
  const [ending, setEnding] = useState<Key | null>(null);
  useEffect(() => void loadKeys(), []);
  return (
    <section class="sheet" aria-labelledby="keys-title">
      <div class="row between">
        <h2 id="keys-title">Keys of programs</h2>
        {!isMaking && <button type="button" onClick={() => setMaking(true)}>New key</button>}
      </div>
      {isMaking && <NewKey onDone={() => setMaking(false)} />}
      <Secret />
      {keys.value.length === 0 && <p class="muted">No program has a key yet.</p>}
      <ul class="keys">
        {keys.value.map((key) => (
          <li key={key.id} class={key.revokedAt ? "revoked" : ""}>
            <div>
              <strong>{key.name}</strong> <code>{key.id}</code>
              <p class="muted small">{`${permissionText(key)} · ${quotaText(key)}`}</p>
              <p class="muted small">
                {stateText(key)}
                {key.previousSecretWorksUntil ? ` · the secret before works until ${when(key.previousSecretWorksUntil)}` : ""}
                {key.allowedNetworks ? ` · from ${key.allowedNetworks.join(", ")}` : ""}
              </p>
            </div>
            {!key.revokedAt && (
              <div class="row">
                <button type="button" onClick={() => void rotateKey(key.id)}>New secret</button>
                <button type="button" class="danger-text" onClick={() => setEnding(key)}>Revoke</button>
              </div>
            )}
          </li>
        ))}
      </ul>
      {ending !== null && (
        <Confirm
          title={`Revoke “${ending.name}”?`}
          text="Whatever uses it is refused within a second. This can't be undone."
          action="Revoke"
          onNo={() => setEnding(null)}
          onYes={() => {
            void revokeKey(ending.id);
            setEnding(null);
          }}
        />
      )}
    </section>
  );
}
