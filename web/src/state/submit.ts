/** Pictures on their way to the server. */
import { signal } from "@preact/signals";
import { SubmitBatchDocument as SubmitBatch, SubmitConversionDocument as SubmitConversion } from "../generated/graphql";
import { Failure, asFailure, titleOf } from "../api/errors";
import type { ConversionOptionsInput, MeshFormat, TextureMode } from "../generated/graphql";
import { api, onSignOut, person, refreshPerson } from "./app";
import { prepend } from "./conversions";

export interface Options {
  formats: readonly MeshFormat[];
  model: string | null;
  /** Null: the model's own. */
  resolution: number | null;
  targetTriangles: number | null;
  /** Null: where the picture has no transparency of its own. */
  removeBackground: boolean | null;
  texture: TextureMode;
  /** With a baked texture only; null: the server's. */
  textureSize: number | null;
  /** Whether the GLB is to be small. */
  quantize: boolean;
  turntable: boolean;
  sizeMm: number | null;
  /** These three count with models that go step by step; null: the model's own, and seed 0. */
  steps: number | null;
  guidance: number | null;
  seed: number | null;
}

export const DEFAULTS: Options = {
  formats: ["GLB"],
  model: null,
  resolution: null,
  targetTriangles: null,
  removeBackground: null,
  texture: "VERTEX_COLOR",
  textureSize: null,
  quantize: false,
  // Cards turn under the pointer.
  turntable: true,
  sizeMm: null,
  steps: null,
  guidance: null,
  seed: null,
};

export interface Picture {
  readonly id: number;
  readonly file: File;
  readonly preview: string;
  readonly failure: Failure | null;
}

export const options = signal<Options>(DEFAULTS);
export const pictures = signal<readonly Picture[]>([]);
export const isSending = signal(false);
let lastPicture = 0;

onSignOut(() => {
  clear();
  options.value = DEFAULTS;
});

const KINDS = ["image/png", "image/jpeg", "image/webp"];

export function add(files: Iterable<File>): void {
  const added = [...files].map((file): Picture => {
    lastPicture += 1;
    const isPicture = KINDS.includes(file.type);
    const text = `${file.name || "This file"} is no PNG, JPEG or WebP.`;
    const failure = isPicture ? null : new Failure("UNSUPPORTED_IMAGE", text, false, null, null);
    return { id: lastPicture, file, preview: URL.createObjectURL(file), failure };
  });
  pictures.value = [...pictures.value, ...added];
}

export function drop(id: number): void {
  const gone = pictures.value.find((picture) => picture.id === id);
  if (gone !== undefined) URL.revokeObjectURL(gone.preview);
  pictures.value = pictures.value.filter((picture) => picture.id !== id);
}

export function clear(): void {
  for (const { preview } of pictures.value) URL.revokeObjectURL(preview);
  pictures.value = [];
}

function fail(id: number, failure: Failure): void {
  pictures.value = pictures.value.map((picture) => (picture.id === id ? { ...picture, failure } : picture));
}

/** A name for this submission, so that sending it twice submits it once. Works on plain HTTP, unlike randomUUID. */
function freshKey(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Once more where no answer came: the key makes that harmless. */
async function insistently<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (asFailure(error).code !== "NETWORK") throw error;
    await new Promise((wake) => setTimeout(wake, 1000));
    return await work();
  }
}

async function sendOne(picture: Picture, input: ConversionOptionsInput): Promise<void> {
  const idempotencyKey = freshKey();
  const image = { upload: picture.file };
  const answer = await insistently(() =>
    api().run(SubmitConversion, { input: { idempotencyKey, image, options: input } }),
  );
  prepend([answer.submitConversion.conversion]);
  drop(picture.id);
}

async function sendTogether(group: readonly Picture[], input: ConversionOptionsInput): Promise<void> {
  const idempotencyKey = freshKey();
  const images = group.map(({ file }) => ({ upload: file }));
  const answer = await insistently(() => api().run(SubmitBatch, { input: { idempotencyKey, images, options: input } }));
  const { items } = answer.submitBatch;
  prepend(items.flatMap(({ conversion }) => (conversion ? [conversion] : [])));
  for (const { index, error } of items) {
    const picture = group[index];
    if (picture === undefined) continue;
    if (error) fail(picture.id, new Failure(error.code, error.message, false, null, error.field ?? null));
    else drop(picture.id);
  }
}

function groupsOf(all: readonly Picture[]): Picture[][] {
  const may = person.value;
  const together = may?.permissions.some((one) => one === "BATCH" || one === "ADMIN") ? may.quota.imagesPerBatch : 1;
  const groups: Picture[][] = [];
  for (let start = 0; start < all.length; start += together) groups.push(all.slice(start, start + together));
  return groups;
}

/** Submits all pictures that were not refused yet; those that are refused stay, with the reason. */
export async function send(): Promise<void> {
  if (isSending.value) return;
  isSending.value = true;
  const { formats, textureSize, ...others } = options.value;
  const size = others.texture === "BAKED" ? textureSize : null;
  const input: ConversionOptionsInput = { ...others, formats: [...formats], textureSize: size };
  for (const group of groupsOf(pictures.value.filter((picture) => picture.failure === null))) {
    const [first] = group;
    try {
      if (group.length === 1 && first !== undefined) await sendOne(first, input);
      else await sendTogether(group, input);
    } catch (error) {
      for (const { id } of group) fail(id, asFailure(error));
    }
  }
  isSending.value = false;
  void refreshPerson().catch(() => undefined);
}

/** Gives refused pictures another try, as after changing an option. */
export function forgive(): void {
  pictures.value = pictures.value.map((picture) =>
    picture.failure === null || picture.failure.code === "UNSUPPORTED_IMAGE" ? picture : { ...picture, failure: null },
  );
}

export function headline(picture: Picture): string | null {
  return picture.failure === null ? null : titleOf(picture.failure.code);
}
