import type { JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import { person } from "../state/app";
import { add, clear, drop, forgive, headline, isSending, pictures, send } from "../state/submit";
import type { Picture } from "../state/submit";
import { Icon } from "./icons";
import { OptionsForm } from "./options-form";
import { bytes } from "./words";

function Chosen({ picture }: { picture: Picture }): JSX.Element {
  const name = picture.file.name || "Pasted picture";
  return (
    <li class={picture.failure === null ? "chosen" : "chosen refused"}>
      <img src={picture.preview} alt="" width="48" height="48" />
      <div class="chosen-text">
        <span class="name" title={name}>{name}</span>
        {picture.failure === null ? (
          <span class="muted">{bytes(picture.file.size)}</span>
        ) : (
          <span class="problem-text">
            <b>{headline(picture)}.</b> {picture.failure.message} {picture.failure.advice}
          </span>
        )}
      </div>
      <button type="button" class="quiet icon-only" aria-label={`Remove ${name}`} onClick={() => drop(picture.id)}>
        <Icon name="close" size={16} />
      </button>
    </li>
  );
}

function DropZone(): JSX.Element {
  const input = useRef<HTMLInputElement>(null);
  const [isOver, setOver] = useState(false);
  return (
    <div
      class={isOver ? "drop over" : "drop"}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        add(event.dataTransfer?.files ?? []);
      }}
    >
      <input
        ref={input}
        id="files"
        class="sr-only"
        type="file"
        accept="image/png,image/jpeg,image/webp"
        multiple
        onChange={(event) => {
          add(event.currentTarget.files ?? []);
          // The same file can then be chosen again.
          event.currentTarget.value = "";
        }}
      />
      <label for="files">
        <Icon name="picture" size={34} />
        <strong>Drop pictures here</strong>
        <span>or choose, photograph or paste them</span>
        <small>PNG, JPEG or WebP · one object each works best</small>
      </label>
    </div>
  );
}

export function SubmitPanel(): JSX.Element {
  const chosen = pictures.value;
  const ready = chosen.filter((picture) => picture.failure === null).length;
  const refused = chosen.length - ready;
  const mayNot = !(person.value?.permissions.some((one) => one === "SUBMIT" || one === "ADMIN") ?? false);
  const label = isSending.value ? "Sending …" : ready > 1 ? `Convert ${ready} pictures` : "Convert";
  return (
    <section class="submit sheet" aria-label="New conversions">
      <DropZone />
      {chosen.length > 0 && (
        <>
          <ul class="chosen-list" aria-label="Chosen pictures">
            {chosen.map((picture) => (
              <Chosen key={picture.id} picture={picture} />
            ))}
          </ul>
          <div class="row small">
            <button type="button" class="link" onClick={clear}>Remove all</button>
            {refused > 0 && <button type="button" class="link" onClick={forgive}>Try refused ones again</button>}
          </div>
        </>
      )}
      <OptionsForm />
      {mayNot && <p class="problem">Your token may look, but not submit.</p>}
      <button
        type="button"
        class="primary wide"
        disabled={ready === 0 || isSending.value || mayNot}
        onClick={() => void send()}
      >
        <Icon name="cube" />
        {label}
      </button>
    </section>
  );
}
