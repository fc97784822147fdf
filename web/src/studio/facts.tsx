/** What a mesh is like and how it came about, in plain words. */
import type { JSX } from "preact";
import type { TextureMode } from "../generated/graphql";
import type { Conversion } from "../state/conversions";
import { Icon } from "./icons";
import { count, duration } from "./words";

function Verdict({ good, children }: { good: boolean; children: string }): JSX.Element {
  return (
    <li class={good ? "good" : "so-so"}>
      <Icon name={good ? "check" : "warning"} size={16} />
      <span>{children}</span>
    </li>
  );
}

function sides(box: readonly number[], longestMm: number | null): string {
  const unit = longestMm ?? 1000;
  const [x = 0, y = 0, z = 0] = box.map((side) => Math.round(side * unit));
  return `${x} × ${y} × ${z} mm, wide, high and deep`;
}

type Print = NonNullable<NonNullable<Conversion["quality"]>["print"]>;

function printed({ sizeMm, volumeCm3, thinnestWallMm, overhangShare }: Print): string {
  const volume = volumeCm3 < 10 ? volumeCm3.toFixed(1) : String(Math.round(volumeCm3));
  const wall = thinnestWallMm.toFixed(1);
  const overhang = Math.round(100 * overhangShare);
  return `Printed ${Math.round(sizeMm)} mm long: ${volume} cm³, walls from ${wall} mm, ${overhang} % of the surface overhangs`;
}

/** Outlines that agree so well look alike. */
const ALIKE = 0.85;

export function Quality({ conversion }: { conversion: Conversion }): JSX.Element | null {
  const { quality, options } = conversion;
  if (!quality) return null;
  const { watertight, manifold, components, boundingBox, warnings, silhouetteAgreement, print } = quality;
  return (
    <section aria-labelledby="quality">
      <h2 id="quality">Quality</h2>
      <ul class="verdicts">
        <Verdict good={watertight}>{watertight ? "Closed: no holes, fit for printing" : "It has holes; a printer's program must close them"}</Verdict>
        <Verdict good={manifold}>
          {manifold ? "Clean: every edge joins two faces" : "Some edges join more or fewer than two faces"}
        </Verdict>
        <Verdict good={components === 1}>{components === 1 ? "One piece" : `${count(components)} separate pieces`}</Verdict>
        {typeof silhouetteAgreement === "number" && (
          <Verdict good={silhouetteAgreement >= ALIKE}>
            {`From the front its outline covers ${Math.round(100 * silhouetteAgreement)} % of the picture's`}
          </Verdict>
        )}
        {warnings.map((warning) => (
          <Verdict key={warning} good={false}>{warning}</Verdict>
        ))}
      </ul>
      <p class="muted small">{sides(boundingBox, options.sizeMm ?? null)}</p>
      {print && <p class="muted small">{printed(print)}</p>}
    </section>
  );
}

const COLOURS: Record<TextureMode, string> = {
  NONE: "none",
  VERTEX_COLOR: "at each corner",
  BAKED: "a texture",
};

function rows({ options, timings, model, attempts, outputs, id }: Conversion): [string, string][] {
  const background = options.removeBackground;
  const found: [string, string][] = [
    ["Model", model],
    ["Detail", options.resolution ? String(options.resolution) : "the model's standard"],
    ["Background", background === null || background === undefined ? "cut away unless transparent" : background ? "cut away" : "left as it is"],
    ["Colour", COLOURS[options.texture]],
  ];
  if (options.targetTriangles) found.push(["At most", `${count(options.targetTriangles)} triangles`]);
  if (options.steps) found.push(["Steps", `${options.steps}, from seed ${options.seed ?? 0}`]);
  const vertices = outputs[0]?.vertices;
  if (vertices) found.push(["Vertices", count(vertices)]);
  if (timings) {
    const { queuedMs, gpuBatchSize, ...stages } = timings;
    const parts = Object.entries(stages).filter((entry): entry is [string, number] => typeof entry[1] === "number");
    const worked = parts.reduce((sum, [, ms]) => sum + ms, 0);
    found.push(["Took", `${duration(worked / 1000)}, after ${duration(queuedMs / 1000)} of waiting`]);
    const [slowest] = parts.sort((one, other) => other[1] - one[1]);
    if (slowest) found.push(["Most of it", `${slowest[0].replace("Ms", "")} (${slowest[1]} ms)`]);
    if (gpuBatchSize > 1) found.push(["Computed", `together with ${gpuBatchSize - 1} others`]);
  }
  if (attempts > 1) found.push(["Attempts", String(attempts)]);
  found.push(["Id", id]);
  return found;
}

export function Details({ conversion }: { conversion: Conversion }): JSX.Element {
  return (
    <details class="details">
      <summary>Details</summary>
      <dl>
        {rows(conversion).map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </details>
  );
}
