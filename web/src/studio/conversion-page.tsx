import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { adviceOf, titleOf } from "../api/errors";
import { local } from "../api/link";
import { hasEnded, known, look } from "../state/conversions";
import type { Conversion } from "../state/conversions";
import { follow, go } from "../state/route";
import { Actions } from "./actions";
import { Details, Quality } from "./facts";
import { Icon } from "./icons";
import { Progress } from "./progress";
import { Stage } from "./stage";
import { ago, bytes, count, formatName, formatUse, statusWord, when } from "./words";

function Downloads({ conversion }: { conversion: Conversion }): JSX.Element | null {
  if (conversion.outputs.length === 0) return null;
  return (
    <section aria-labelledby="downloads">
      <h2 id="downloads">Download</h2>
      <ul class="downloads">
        {conversion.outputs.map(({ format, url, bytes: size }) => (
          <li key={url}>
            <a class="button" href={local(url)} download>
              <Icon name="download" size={16} />
              <b>{format ? formatName(format) : "Mesh"}</b>
              <span class="muted">{format ? `${formatUse(format)} · ${bytes(size)}` : bytes(size)}</span>
            </a>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Trouble({ conversion }: { conversion: Conversion }): JSX.Element | null {
  const { status, error } = conversion;
  if (status === "CANCELED") return <p class="problem mild">It was cancelled before it was done.</p>;
  if (!error) return null;
  return (
    <div class="problem">
      <strong>{titleOf(error.code)}</strong>
      <p>{error.message}</p>
      <p>{error.retryable ? "Trying again may help." : adviceOf(error.code)}</p>
    </div>
  );
}

function Source({ conversion }: { conversion: Conversion }): JSX.Element | null {
  const { source } = conversion;
  if (!source) return null;
  const size = source.width && source.height ? `${source.width} × ${source.height}, ` : "";
  return (
    <figure class="source-picture">
      <img src={local(source.url)} alt="The picture that was submitted" />
      <figcaption class="muted">{`The picture: ${size}${bytes(source.bytes)}`}</figcaption>
    </figure>
  );
}

function Waiting({ conversion }: { conversion: Conversion }): JSX.Element {
  const { preview, source, status } = conversion;
  const picture = preview ?? source;
  return (
    <div class="stage waiting" data-state={status}>
      {picture && <img src={local(picture.url)} alt={preview ? "The mesh so far" : ""} />}
      {!hasEnded(status) && <Progress conversion={conversion} />}
    </div>
  );
}

function Heading({ conversion }: { conversion: Conversion }): JSX.Element {
  const { status, createdAt, expiresAt, outputs } = conversion;
  const mesh = outputs[0];
  return (
    <div class="page-head">
      <a class="back" href="/" onClick={(event) => follow(event, "/")}>
        <Icon name="back" size={16} />
        All conversions
      </a>
      <h1>
        {status === "SUCCEEDED" && mesh?.triangles ? `A mesh of ${count(mesh.triangles)} triangles` : statusWord(status)}
      </h1>
      <p class="muted">
        <time dateTime={createdAt} title={when(createdAt)}>{`Submitted ${ago(createdAt)}`}</time>
        {expiresAt ? `, removed ${when(expiresAt)}` : ""}
      </p>
    </div>
  );
}

export function ConversionPage({ id }: { id: string }): JSX.Element {
  const conversion = known.value.get(id);
  const [isMissing, setMissing] = useState(false);
  useEffect(() => {
    // Also what is known: links to its files work for an hour.
    void look(id).then((found) => setMissing(found === null));
  }, [id]);
  if (conversion === undefined) {
    return (
      <main id="main" class="narrow">
        <h1>{isMissing ? "There is no such conversion" : "Loading …"}</h1>
        {isMissing && <p>It was deleted or has expired, or it is somebody else's.</p>}
        <p>
          <a href="/" onClick={(event) => follow(event, "/")}>Back to all conversions</a>
        </p>
      </main>
    );
  }
  const done = conversion.status === "SUCCEEDED";
  return (
    <main id="main" class="conversion">
      <Heading conversion={conversion} />
      {done ? <Stage conversion={conversion} /> : <Waiting conversion={conversion} />}
      <aside class="sheet" aria-label="About this conversion">
        <Trouble conversion={conversion} />
        <Downloads conversion={conversion} />
        <Source conversion={conversion} />
        <Quality conversion={conversion} />
        <Details conversion={conversion} />
        <div class="row actions">
          <Actions conversion={conversion} onGone={() => go("/")} />
        </div>
      </aside>
    </main>
  );
}
