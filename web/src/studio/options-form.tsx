import type { JSX } from "preact";
import type { MeshFormat } from "../generated/graphql";
import { models } from "../state/app";
import { DEFAULTS, options } from "../state/submit";
import type { Options } from "../state/submit";
import { ALL_FORMATS, formatName, formatUse } from "./words";

function set(parts: Partial<Options>): void {
  options.value = { ...options.value, ...parts };
}

function toggleFormat(format: MeshFormat): void {
  const { formats } = options.value;
  const next = ALL_FORMATS.filter((one) => (one === format) !== formats.includes(one));
  // A conversion without a file is none.
  if (next.length > 0) set({ formats: next });
}

function numberOf(text: string): number | null {
  const number = Number(text);
  return text.trim() === "" || !Number.isFinite(number) ? null : number;
}

function Detail({ value, most, standard }: { value: number | null; most: number; standard: number }): JSX.Element {
  const steps = [64, 96, 128, 192, 256, 384, 512].filter((step) => step <= most);
  return (
    <label class="field">
      <span>Detail</span>
      <select
        name="resolution"
        value={value === null ? "" : String(value)}
        onChange={(event) => set({ resolution: numberOf(event.currentTarget.value) })}
      >
        <option value="">{`Standard (${standard})`}</option>
        {steps.map((step) => (
          <option key={step} value={String(step)}>{`${step}${step < standard ? ", faster" : step > standard ? ", finer" : ""}`}</option>
        ))}
      </select>
    </label>
  );
}

const BACKGROUND = { auto: null, cut: true, keep: false } as const;

function Background({ value }: { value: boolean | null }): JSX.Element {
  const current = value === null ? "auto" : value ? "cut" : "keep";
  return (
    <label class="field">
      <span>Background</span>
      <select
        name="background"
        value={current}
        onChange={(event) => set({ removeBackground: BACKGROUND[event.currentTarget.value as keyof typeof BACKGROUND] })}
      >
        <option value="auto">Cut away unless transparent</option>
        <option value="cut">Always cut away</option>
        <option value="keep">Leave as it is</option>
      </select>
    </label>
  );
}

interface StepProps {
  name: "steps" | "guidance" | "seed";
  label: string;
  /** Null: the model doesn't heed it. */
  range: { default: number; min: number; max: number } | null | undefined;
  step: string;
}

/** An option of models that go from noise to an object step by step. */
function OfSteps({ name, label, range, step }: StepProps): JSX.Element | null {
  if (!range) return null;
  return (
    <label class="field">
      <span>{`${label}, ${range.min} to ${range.max}`}</span>
      <input
        type="number"
        name={name}
        min={range.min}
        max={range.max}
        step={step}
        placeholder={String(range.default)}
        value={options.value[name] ?? ""}
        onInput={(event) => set({ [name]: numberOf(event.currentTarget.value) })}
      />
    </label>
  );
}

/** The whole numbers of GraphQL that are not negative. */
const SEEDS = { default: 0, min: 0, max: 2147483647 };

export function OptionsForm(): JSX.Element {
  const { formats, model, quantize, resolution, removeBackground, sizeMm, targetTriangles, texture, textureSize } = options.value;
  const chosen = models.value.find((one) => (model === null ? one.isDefault : one.name === model));
  const isPrinted = formats.some((format) => format === "STL" || format === "THREE_MF");
  return (
    <div class="options">
      <fieldset>
        <legend>Files</legend>
        <div class="chips">
          {ALL_FORMATS.map((format) => (
            <label key={format} class="chip" title={formatUse(format)}>
              <input type="checkbox" checked={formats.includes(format)} onChange={() => toggleFormat(format)} />
              <span>{formatName(format)}</span>
            </label>
          ))}
        </div>
      </fieldset>
      <details>
        <summary>More options</summary>
        <div class="fields">
          {models.value.length > 1 && (
            <label class="field full">
              <span>Model</span>
              <select
                name="model"
                value={chosen?.name ?? ""}
                onChange={(event) => set({ model: event.currentTarget.value })}
              >
                {models.value.map((one) => (
                  <option key={one.id} value={one.name}>{one.name}</option>
                ))}
              </select>
            </label>
          )}
          <Detail value={resolution} most={chosen?.resolutionMax ?? 256} standard={chosen?.resolutionDefault ?? 128} />
          <Background value={removeBackground} />
          <label class="field">
            <span>At most triangles</span>
            <input
              type="number"
              name="triangles"
              min="4"
              step="1000"
              placeholder={texture === "BAKED" ? "20000" : "as they come"}
              value={targetTriangles ?? ""}
              onInput={(event) => set({ targetTriangles: numberOf(event.currentTarget.value) })}
            />
          </label>
          <label class="field">
            <span>Colour</span>
            <select
              name="texture"
              value={texture}
              onChange={(event) => set({ texture: event.currentTarget.value as Options["texture"] })}
            >
              <option value="VERTEX_COLOR">A colour at each corner</option>
              <option value="BAKED">A texture, with fewer triangles</option>
              <option value="NONE">None</option>
            </select>
          </label>
          {texture === "BAKED" && (
            <label class="field">
              <span>Texture, pixels a side</span>
              <select
                name="textureSize"
                value={textureSize === null ? "" : String(textureSize)}
                onChange={(event) => set({ textureSize: numberOf(event.currentTarget.value) })}
              >
                <option value="">Standard (1024)</option>
                {[512, 2048, 4096].map((size) => (
                  <option key={size} value={String(size)}>{size}</option>
                ))}
              </select>
            </label>
          )}
          <label class="field full">
            <span>Longest side for printing, mm{isPrinted ? "" : " (STL and 3MF)"}</span>
            <input
              type="number"
              name="size"
              min="1"
              step="any"
              placeholder="100"
              value={sizeMm ?? ""}
              onInput={(event) => set({ sizeMm: numberOf(event.currentTarget.value) })}
            />
          </label>
          {formats.includes("GLB") && (
            <label class="check full">
              <input type="checkbox" name="quantize" checked={quantize} onChange={() => set({ quantize: !quantize })} />
              <span>Smaller GLB, for the web</span>
            </label>
          )}
          <OfSteps name="steps" label="Steps" range={chosen?.steps} step="1" />
          <OfSteps name="guidance" label="Pull of the picture" range={chosen?.guidance} step="any" />
          <OfSteps name="seed" label="Seed" range={chosen?.steps && SEEDS} step="1" />
        </div>
        {chosen !== undefined && (
          <p class="muted small">
            {chosen.name}: {chosen.description}
          </p>
        )}
        <button type="button" class="link small" onClick={() => (options.value = DEFAULTS)}>Back to the defaults</button>
      </details>
    </div>
  );
}
