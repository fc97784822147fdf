/* eslint-disable */
/** Internal type. DO NOT USE DIRECTLY. */
type Exact<T extends { [key: string]: unknown }> = { [K in keyof T]: T[K] };
/** Internal type. DO NOT USE DIRECTLY. */
export type Incremental<T> = T | { [P in keyof T]?: P extends ' $fragmentName' | '__typename' ? T[P] : never };
import type { DocumentTypeDecoration } from '@graphql-typed-document-node/core';
/** What to make of the pictures. */
export type ConversionOptionsInput = {
  /** The mesh files to make. */
  formats?: Array<MeshFormat>;
  /**
   * How far the picture pulls at each step, within the model's `guidance`; default: the model's. Ignored by models
   * that have none.
   */
  guidance?: number | null | undefined;
  /**
   * Fail rather than deliver a mesh whose outline agrees less with the picture's: 0 to 1; see
   * `quality.silhouetteAgreement`. A picture without an outline is converted all the same, with a warning.
   */
  minSilhouetteAgreement?: number | null | undefined;
  /** Default: the server's. */
  model?: string | null | undefined;
  /**
   * A GLB of about two thirds the size, by the extension `KHR_mesh_quantization`, which browsers and engines know; default:
   * false.
   */
  quantize?: boolean | null | undefined;
  /** Cut the background away; default: where the picture has no transparency of its own. */
  removeBackground?: boolean | null | undefined;
  /** Field samples along an axis, 32 to 512; default: the model's. */
  resolution?: number | null | undefined;
  /**
   * What the noise is made from, 0 to 2147483647; default: 0, so that the same picture gives the same mesh. Ignored by
   * models that don't iterate.
   */
  seed?: number | null | undefined;
  /** The longest side in millimetres; default: 1 m, and 100 mm in STL and 3MF. */
  sizeMm?: number | null | undefined;
  /** Denoising steps, within the model's `steps`; default: the model's. Ignored by models that don't iterate. */
  steps?: number | null | undefined;
  /** Simplify to at most this many triangles. */
  targetTriangles?: number | null | undefined;
  /** How the surface is coloured. */
  texture?: TextureMode;
  /** Pixels along a side of the texture, with `BAKED` only: 256 to 4096; default: 1024. */
  textureSize?: number | null | undefined;
  /** Make a `turntable`, too: a short loop of the mesh turning; default: false. */
  turntable?: boolean | null | undefined;
};

/** Where a conversion stands. `Succeeded`, `Failed` and `Canceled` never change again. */
export type ConversionStatus =
  /** Its owner called it off. */
  | 'CANCELED'
  /** It ended without a mesh; `error` tells why. */
  | 'FAILED'
  /** Accepted, waiting for a node. */
  | 'QUEUED'
  /** A node holds it under a lease. */
  | 'RUNNING'
  /** Its meshes are stored. */
  | 'SUCCEEDED';

/** The codes of the contract that this server answers with. */
export type ErrorCode =
  /** No mesh could be made of this picture. */
  | 'CONVERSION_FAILED'
  /** The caller is known and may not do this. */
  | 'FORBIDDEN'
  /** The document is no GraphQL. */
  | 'GRAPHQL_PARSE_FAILED'
  /** The document doesn't fit the schema. */
  | 'GRAPHQL_VALIDATION_FAILED'
  /** The idempotency key was used for another input in the last 24 hours. */
  | 'IDEMPOTENCY_CONFLICT'
  /** The picture's URL gave none; `retryable` says whether that may pass. */
  | 'IMAGE_FETCH_FAILED'
  /** The picture has too many bytes or pixels. */
  | 'IMAGE_TOO_LARGE'
  /** The server had a problem of its own; the log has the cause under the request's id. */
  | 'INTERNAL'
  /** The picture is damaged, or not what it says it is. */
  | 'INVALID_IMAGE'
  /** An argument can't be used; `field` names it. */
  | 'INVALID_INPUT'
  /** The model isn't on this server, or no node that computes has it. */
  | 'MODEL_UNAVAILABLE'
  /** There is no such thing, or it isn't the caller's. */
  | 'NOT_FOUND'
  /** The server can't take it on now; try again a little later. */
  | 'OVERLOADED'
  /** Nobody has sent the document of this hash lately: send it along. */
  | 'PERSISTED_QUERY_NOT_FOUND'
  /** The document asks for too much at once. */
  | 'QUERY_TOO_COMPLEX'
  /** A quota of conversions, of images in a batch or of stored bytes is used up. */
  | 'QUOTA_EXCEEDED'
  /** Too many requests a minute; `retryAfterSeconds` says when one is let in again. */
  | 'RATE_LIMITED'
  /** Nobody is signed in, or the token or signature doesn't count (any more). */
  | 'UNAUTHENTICATED'
  /** The picture is of a kind that isn't read: use PNG, JPEG or WebP that doesn't move. */
  | 'UNSUPPORTED_IMAGE';

/** A picture, in one of several ways. */
export type ImageInput =
  {   /** A picture that you submitted before: the id of a conversion's `source`. */
  assetId: string | number; base64?: never; upload?: never; url?: never; }
  |  { assetId?: never;   /** The file's bytes in base64, with or without a `data:` prefix. */
  base64: string; upload?: never; url?: never; }
  |  { assetId?: never; base64?: never;   /** A file of a multipart request. */
  upload: never; url?: never; }
  |  { assetId?: never; base64?: never; upload?: never;   /**
   * Where the server gets it from: an https:// address that everybody can reach, without a password, behind at most
   * three redirects. The mutation waits for it, up to 20 s (a batch up to a minute) unless the server says otherwise.
   * With an idempotency key the address itself is what counts, and a repetition fetches nothing.
   */
  url: string; };

/** A mesh file format. */
export type MeshFormat =
  /** Binary glTF 2.0, in metres, +Y up. */
  | 'GLB'
  /** Wavefront OBJ with vertex colours. */
  | 'OBJ'
  /** Binary PLY with vertex colours. */
  | 'PLY'
  /** Binary STL, in millimetres, +Z up. */
  | 'STL'
  /** 3MF, in millimetres, +Z up. */
  | 'THREE_MF';

/** Several pictures to convert with the same options. */
export type SubmitBatchInput = {
  /** Submitting again with the same key and the same input yields the same batch, for 24 hours. */
  idempotencyKey?: string | null | undefined;
  /** The pictures; a bad one does not fail the others. */
  images: Array<ImageInput>;
  /** What to make of them. */
  options?: ConversionOptionsInput | null | undefined;
  /** Whom to tell of it and its conversions; default: whom your key names, if it does. */
  webhook?: WebhookInput | null | undefined;
};

/** How the surface is coloured. */
export type TextureMode =
  /**
   * A picture laid over the surface, which is simplified to some 20,000 triangles unless `targetTriangles` says
   * otherwise: GLB and OBJ (a ZIP with its material and picture) carry it, PLY and 3MF the colours of the vertices.
   */
  | 'BAKED'
  /** No colours. */
  | 'NONE'
  /** One colour per vertex. */
  | 'VERTEX_COLOR';

/** Something that a hook may be told of. */
export type WebhookEvent =
  /** The last conversion of a batch has ended. */
  | 'BATCH_FINISHED'
  /** It was called off. */
  | 'CONVERSION_CANCELED'
  /** It ended without a mesh. */
  | 'CONVERSION_FAILED'
  /** A node has taken the conversion up for the first time. */
  | 'CONVERSION_STARTED'
  /** Its meshes are stored. */
  | 'CONVERSION_SUCCEEDED';

/** Whom to tell of what. */
export type WebhookInput = {
  /** Of what; default: of every end. */
  events?: Array<WebhookEvent> | null | undefined;
  /** Where to: an address that begins with `https://`, of a public server. */
  url: string;
};

export type SubmitMutationVariables = Exact<{
  input: SubmitBatchInput;
}>;


export type SubmitMutation = { submitBatch: { batch: { id: string } | null, items: Array<{ index: number, conversion: { id: string } | null, error: { code: ErrorCode, message: string } | null }> } };

export type FollowSubscriptionVariables = Exact<{
  id: string | number;
}>;


export type FollowSubscription = { batchProgress: { sequence: number, progress: number, counts: { queued: number, running: number, succeeded: number, failed: number, canceled: number } } };

export type OutputsQueryVariables = Exact<{
  id: string | number;
}>;


export type OutputsQuery = { batch: { conversions: Array<{ id: string, status: ConversionStatus, error: { code: string, message: string } | null, outputs: Array<{ format: MeshFormat | null, url: string, sha256: string }> }> } | null };

export class TypedDocumentString<TResult, TVariables>
  extends String
  implements DocumentTypeDecoration<TResult, TVariables>
{
  __apiType?: NonNullable<DocumentTypeDecoration<TResult, TVariables>['__apiType']>;
  private value: string;
  public __meta__?: Record<string, any> | undefined;

  constructor(value: string, __meta__?: Record<string, any> | undefined) {
    super(value);
    this.value = value;
    this.__meta__ = __meta__;
  }

  override toString(): string & DocumentTypeDecoration<TResult, TVariables> {
    return this.value;
  }
}

export const SubmitDocument = new TypedDocumentString(`
    mutation Submit($input: SubmitBatchInput!) {
  submitBatch(input: $input) {
    batch {
      id
    }
    items {
      index
      conversion {
        id
      }
      error {
        code
        message
      }
    }
  }
}
    `) as unknown as TypedDocumentString<SubmitMutation, SubmitMutationVariables>;
export const FollowDocument = new TypedDocumentString(`
    subscription Follow($id: ID!) {
  batchProgress(id: $id) {
    sequence
    progress
    counts {
      queued
      running
      succeeded
      failed
      canceled
    }
  }
}
    `) as unknown as TypedDocumentString<FollowSubscription, FollowSubscriptionVariables>;
export const OutputsDocument = new TypedDocumentString(`
    query Outputs($id: ID!) {
  batch(id: $id) {
    conversions {
      id
      status
      error {
        code
        message
      }
      outputs {
        format
        url
        sha256
      }
    }
  }
}
    `) as unknown as TypedDocumentString<OutputsQuery, OutputsQueryVariables>;