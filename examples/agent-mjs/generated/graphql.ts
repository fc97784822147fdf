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
  /** Default: the server's. */
  model?: string | null | undefined;
  /** Cut the background away; default: where the picture has no transparency of its own. */
  removeBackground?: boolean | null | undefined;
  /** Field samples along an axis, 32 to 512; default: the model's. */
  resolution?: number | null | undefined;
  /**
   * What the noise is made from, 0 to 2147483647; default: 0, so that the same picture gives the same mesh. Ignored by
   * models that don't iterate.
   */
  seed?: number | null | undefined;
  /** The longest side in millimetres, for printing. */
  sizeMm?: number | null | undefined;
  /** Denoising steps, within the model's `steps`; default: the model's. Ignored by models that don't iterate. */
  steps?: number | null | undefined;
  /** Simplify to at most this many triangles. */
  targetTriangles?: number | null | undefined;
  /** How the surface is coloured. */
  texture?: TextureMode;
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
  | 'CONVERSION_FAILED'
  | 'FORBIDDEN'
  | 'GRAPHQL_PARSE_FAILED'
  | 'GRAPHQL_VALIDATION_FAILED'
  | 'IDEMPOTENCY_CONFLICT'
  | 'IMAGE_TOO_LARGE'
  | 'INTERNAL'
  | 'INVALID_IMAGE'
  | 'INVALID_INPUT'
  | 'MODEL_UNAVAILABLE'
  | 'NOT_FOUND'
  | 'OVERLOADED'
  | 'QUERY_TOO_COMPLEX'
  | 'QUOTA_EXCEEDED'
  | 'RATE_LIMITED'
  | 'UNAUTHENTICATED'
  | 'UNSUPPORTED_IMAGE';

/** A picture, in one of several ways. */
export type ImageInput =
  {   /** A picture that you submitted before: the id of a conversion's `source`. */
  assetId: string | number; base64?: never; upload?: never; }
  |  { assetId?: never;   /** The file's bytes in base64, with or without a `data:` prefix. */
  base64: string; upload?: never; }
  |  { assetId?: never; base64?: never;   /** A file of a multipart request. */
  upload: never; };

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
};

/** How the surface is coloured. */
export type TextureMode =
  /** No colours. */
  | 'NONE'
  /** One colour per vertex. */
  | 'VERTEX_COLOR';

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