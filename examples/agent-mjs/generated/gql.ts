/* eslint-disable */
import * as types from './graphql';



/**
 * Map of all GraphQL operations in the project.
 *
 * This map has several performance disadvantages:
 * 1. It is not tree-shakeable, so it will include all operations in the project.
 * 2. It is not minifiable, so the string of a GraphQL query will be multiple times inside the bundle.
 * 3. It does not support dead code elimination, so it will add unused operations.
 *
 * Therefore it is highly recommended to use the babel or swc plugin for production.
 * Learn more about it here: https://the-guild.dev/graphql/codegen/plugins/presets/preset-client#reducing-bundle-size
 */
type Documents = {
    "\n  mutation Submit($input: SubmitBatchInput!) {\n    submitBatch(input: $input) {\n      batch { id }\n      items { index conversion { id } error { code message } }\n    }\n  }\n": typeof types.SubmitDocument,
    "\n  subscription Follow($id: ID!) {\n    batchProgress(id: $id) { sequence progress counts { queued running succeeded failed canceled } }\n  }\n": typeof types.FollowDocument,
    "\n  query Outputs($id: ID!) {\n    batch(id: $id) { conversions { id status error { code message } outputs { format url sha256 } } }\n  }\n": typeof types.OutputsDocument,
};
const documents: Documents = {
    "\n  mutation Submit($input: SubmitBatchInput!) {\n    submitBatch(input: $input) {\n      batch { id }\n      items { index conversion { id } error { code message } }\n    }\n  }\n": types.SubmitDocument,
    "\n  subscription Follow($id: ID!) {\n    batchProgress(id: $id) { sequence progress counts { queued running succeeded failed canceled } }\n  }\n": types.FollowDocument,
    "\n  query Outputs($id: ID!) {\n    batch(id: $id) { conversions { id status error { code message } outputs { format url sha256 } } }\n  }\n": types.OutputsDocument,
};

/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  mutation Submit($input: SubmitBatchInput!) {\n    submitBatch(input: $input) {\n      batch { id }\n      items { index conversion { id } error { code message } }\n    }\n  }\n"): typeof import('./graphql').SubmitDocument;
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  subscription Follow($id: ID!) {\n    batchProgress(id: $id) { sequence progress counts { queued running succeeded failed canceled } }\n  }\n"): typeof import('./graphql').FollowDocument;
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  query Outputs($id: ID!) {\n    batch(id: $id) { conversions { id status error { code message } outputs { format url sha256 } } }\n  }\n"): typeof import('./graphql').OutputsDocument;


export function graphql(source: string) {
  return (documents as any)[source] ?? {};
}
