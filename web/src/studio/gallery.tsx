import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { titleOf } from "../api/errors";
import { local } from "../api/link";
import { isAdmin, person } from "../state/app";
import { choose, cursor, filter, hasEnded, hasLoaded, isLoading, known, listed, loadMore } from "../state/conversions";
import type { Conversion, Filter } from "../state/conversions";
import { follow } from "../state/route";
import { Icon } from "./icons";
import { Progress } from "./progress";
import { ago, count, formatName, statusWord } from "./words";

const FILTERS: readonly [Filter, string][] = [
  ["all", "All"],
  ["active", "In progress"],
  ["done", "Done"],
  ["failed", "Failed or cancelled"],
];

function Face({ conversion }: { conversion: Conversion }): JSX.Element {
  const { preview, source, turntable } = conversion;
  const [isTurning, setTurning] = useState(false);
  const picture = preview ?? source;
  if (!picture) return <div class="face empty"><Icon name="cube" size={40} /></div>;
  return (
    <div
      class={preview ? "face" : "face source"}
      onPointerEnter={() => setTurning(!matchMedia("(prefers-reduced-motion: reduce)").matches)}
      onPointerLeave={() => setTurning(false)}
    >
      <img src={local(picture.url)} alt={preview ? "The mesh" : "The picture"} loading="lazy" decoding="async" />
      {isTurning && turntable && (
        <img
          class="turning"
          src={local(turntable.url)}
          alt=""
          onLoad={(event) => event.currentTarget.classList.add("here")}
        />
      )}
      {preview && source && <img class="inset" src={local(source.url)} alt="" loading="lazy" decoding="async" />}
    </div>
  );
}

function Foot({ conversion }: { conversion: Conversion }): JSX.Element {
  const { status, error, outputs, quality, createdAt, owner } = conversion;
  if (!hasEnded(status)) return <Progress conversion={conversion} />;
  const triangles = outputs[0]?.triangles;
  const isMine = owner === person.value?.owner;
  return (
    <div class="card-foot">
      {status === "SUCCEEDED" ? (
        <span>
          {triangles ? `${count(triangles)} triangles` : statusWord(status)}
          {quality && quality.warnings.length > 0 && (
            <span class="hint" title={quality.warnings.join("\n")}>
              <Icon name="warning" size={15} />
              <span class="sr-only">{`${quality.warnings.length} remarks`}</span>
            </span>
          )}
        </span>
      ) : (
        <span class={status === "FAILED" ? "state failed" : "state"}>{error ? titleOf(error.code) : statusWord(status)}</span>
      )}
      <span class="muted">
        {isMine ? "" : `${owner} · `}
        <time dateTime={createdAt}>{ago(createdAt)}</time>
      </span>
      {outputs.length > 1 && (
        <span class="muted formats">{outputs.map(({ format }) => (format ? formatName(format) : "")).join(" · ")}</span>
      )}
    </div>
  );
}

function Card({ conversion }: { conversion: Conversion }): JSX.Element {
  const path = `/conversions/${conversion.id}`;
  return (
    <li>
      <a class="card" href={path} onClick={(event) => follow(event, path)}>
        <Face conversion={conversion} />
        <Foot conversion={conversion} />
      </a>
    </li>
  );
}

function Nothing(): JSX.Element {
  const isFiltered = filter.value !== "all";
  return (
    <div class="nothing">
      <Icon name="cube" size={44} />
      <p>{isFiltered ? "None of your conversions is in this state." : "Nothing here yet. Drop a picture to make the first mesh."}</p>
    </div>
  );
}

export function Gallery(): JSX.Element {
  const shown = listed.value.map((id) => known.value.get(id)).filter((one): one is Conversion => one !== undefined);
  return (
    <section class="gallery" aria-labelledby="gallery-title">
      <div class="gallery-head">
        <h2 id="gallery-title">{isAdmin.value ? "Everybody's conversions" : "Your conversions"}</h2>
        <div class="tabs" role="group" aria-label="Show">
          {FILTERS.map(([name, text]) => (
            <button key={name} type="button" aria-pressed={filter.value === name} onClick={() => void choose(name)}>
              {text}
            </button>
          ))}
        </div>
      </div>
      {shown.length === 0 && hasLoaded.value && !isLoading.value && <Nothing />}
      <ul class="cards" aria-busy={isLoading.value}>
        {shown.map((conversion) => (
          <Card key={conversion.id} conversion={conversion} />
        ))}
      </ul>
      {cursor.value !== null && (
        <button type="button" class="more" disabled={isLoading.value} onClick={() => void loadMore()}>
          {isLoading.value ? "Loading …" : "Show more"}
        </button>
      )}
    </section>
  );
}
