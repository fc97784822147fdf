/** What went wrong, in words for the person in front of the screen. */
import type { CombinedError } from "@urql/core";
import type { ErrorCode } from "../generated/graphql";

/** The server's codes, and one for when nothing came back. */
export type FailureCode = ErrorCode | "NETWORK";

const TITLES: Record<FailureCode, string> = {
  CONVERSION_FAILED: "No mesh could be made of this picture",
  FORBIDDEN: "You may not do this",
  GRAPHQL_PARSE_FAILED: "The server did not understand the studio",
  GRAPHQL_VALIDATION_FAILED: "The server did not understand the studio",
  IDEMPOTENCY_CONFLICT: "This was submitted before with other options",
  IMAGE_FETCH_FAILED: "The picture can't be had from there",
  IMAGE_TOO_LARGE: "The picture is too large",
  INTERNAL: "The server had a problem of its own",
  INVALID_IMAGE: "The picture can't be read",
  INVALID_INPUT: "One of the options doesn't fit",
  MODEL_UNAVAILABLE: "The model is not there",
  NETWORK: "The server can't be reached",
  NOT_FOUND: "It is no longer there",
  OVERLOADED: "The server is busy",
  QUERY_TOO_COMPLEX: "That was too much at once",
  QUOTA_EXCEEDED: "Your quota is used up",
  RATE_LIMITED: "That was too fast",
  UNAUTHENTICATED: "Please sign in again",
  UNSUPPORTED_IMAGE: "This kind of picture isn't supported",
};

const ADVICE: Partial<Record<FailureCode, string>> = {
  CONVERSION_FAILED: "Try a picture with one object in the middle, seen whole, on a plain background.",
  FORBIDDEN: "Ask whoever runs this server for the permission.",
  GRAPHQL_PARSE_FAILED: "Reload the page: the server may have been updated since you opened it.",
  GRAPHQL_VALIDATION_FAILED: "Reload the page: the server may have been updated since you opened it.",
  NETWORK: "Check the connection. What was submitted goes on without you.",
  UNSUPPORTED_IMAGE: "Use a PNG, a JPEG or a WebP that doesn't move.",
};

export class Failure extends Error {
  constructor(
    readonly code: FailureCode,
    message: string,
    readonly isRetryable: boolean,
    readonly retryAfterSeconds: number | null,
    readonly field: string | null,
  ) {
    super(message);
    this.name = "Failure";
  }

  get title(): string {
    return titleOf(this.code);
  }

  get advice(): string | null {
    return adviceOf(this.code, this.retryAfterSeconds);
  }
}

function isKnown(code: unknown): code is FailureCode {
  return typeof code === "string" && code in TITLES;
}

/** A heading for a code; one that a newer server has and this page doesn't know reads like a problem of the server's. */
export function titleOf(code: string): string {
  return TITLES[isKnown(code) ? code : "INTERNAL"];
}

export function adviceOf(code: string, retryAfterSeconds: number | null = null): string | null {
  if (retryAfterSeconds !== null) return `Try again in ${waitText(retryAfterSeconds)}.`;
  return (isKnown(code) ? ADVICE[code] : undefined) ?? null;
}

function waitText(seconds: number): string {
  if (seconds < 90) return seconds === 1 ? "a second" : `${Math.ceil(seconds)} seconds`;
  if (seconds < 5400) return `${Math.ceil(seconds / 60)} minutes`;
  return `${Math.ceil(seconds / 3600)} hours`;
}

export function failureOf(error: CombinedError | undefined): Failure | null {
  if (error === undefined) return null;
  const told = error.graphQLErrors[0];
  if (told === undefined) {
    return new Failure("NETWORK", "No answer came from the server.", true, null, null);
  }
  const { code, field, retryAfterSeconds, retryable } = told.extensions;
  return new Failure(
    isKnown(code) ? code : "INTERNAL",
    told.message,
    retryable === true,
    typeof retryAfterSeconds === "number" ? retryAfterSeconds : null,
    typeof field === "string" ? field : null,
  );
}

/** Anything that was thrown, as something that can be shown. */
export function asFailure(error: unknown): Failure {
  if (error instanceof Failure) return error;
  return new Failure("INTERNAL", error instanceof Error ? error.message : String(error), false, null, null);
}
