/** Numbers and states as a person reads them. */
import type { ConversionStage, ConversionStatus, MeshFormat } from "../generated/graphql";

const STAGES: Record<ConversionStage, string> = {
  PREPARE: "Preparing the picture",
  ENCODE: "Looking at it",
  RECONSTRUCT: "Imagining the shape",
  MESH: "Building the surface",
  TEXTURE: "Colouring",
  EXPORT: "Writing the files",
};

const STATUSES: Record<ConversionStatus, string> = {
  QUEUED: "Waiting",
  RUNNING: "Running",
  SUCCEEDED: "Done",
  FAILED: "Failed",
  CANCELED: "Cancelled",
};

const FORMATS: Record<MeshFormat, { name: string; use: string }> = {
  GLB: { name: "GLB", use: "web, games, Blender" },
  OBJ: { name: "OBJ", use: "nearly every program" },
  STL: { name: "STL", use: "3D printing" },
  PLY: { name: "PLY", use: "scans and research" },
  THREE_MF: { name: "3MF", use: "3D printing, with units" },
};

export const ALL_FORMATS = Object.keys(FORMATS) as MeshFormat[];

export function formatName(format: MeshFormat): string {
  return FORMATS[format].name;
}

export function formatUse(format: MeshFormat): string {
  return FORMATS[format].use;
}

export function statusWord(status: ConversionStatus): string {
  return STATUSES[status];
}

export function stageWord(stage: ConversionStage): string {
  return STAGES[stage];
}

/** What a conversion is doing, in a line. */
export function doing(conversion: {
  status: ConversionStatus;
  stage?: ConversionStage | null;
  queuePosition?: number | null;
  cancelRequested: boolean;
}): string {
  const { status, stage, queuePosition, cancelRequested } = conversion;
  if (status === "RUNNING" && cancelRequested) return "Stopping";
  if (status === "RUNNING") return stage ? stageWord(stage) : "Running";
  if (status === "QUEUED" && queuePosition) return `Waiting, ${queuePosition} before it`;
  return statusWord(status);
}

export function duration(seconds: number): string {
  if (seconds < 1) return "under a second";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129_600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

export function bytes(count: number): string {
  if (count < 1000) return `${count} B`;
  if (count < 1_000_000) return `${(count / 1000).toFixed(0)} kB`;
  if (count < 1_000_000_000) return `${(count / 1_000_000).toFixed(1)} MB`;
  return `${(count / 1_000_000_000).toFixed(1)} GB`;
}

export function count(number: number): string {
  return number.toLocaleString("en");
}

export function ago(time: string, now = Date.now()): string {
  const seconds = Math.max(0, (now - Date.parse(time)) / 1000);
  return seconds < 5 ? "just now" : `${duration(seconds)} ago`;
}

export function when(time: string): string {
  return new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

export function share(part: number): string {
  return `${Math.round(part * 100)}%`;
}
