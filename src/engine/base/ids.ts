/**
 * Branded names and counters. Each is made at the edge that checked it and never re-checked inside.
 */
import { EngineError } from "./errors.ts";

declare const brand: unique symbol;
type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** A node's name in its cluster: `[a-z0-9-]{1,32}`. */
export type NodeId = Brand<string, "NodeId">;
/** Number of entries in a log prefix; ranges of entries are `[from, to)`. */
export type TreeSize = number;
/** SHA-256 output, 32 bytes. */
export type Hash = Uint8Array;
/** A log's 8-byte id: first 8 bytes of SHA-256(origin). */
export type LogId = Uint8Array;

export const HASH_BYTES = 32;
export const NODE_ID_PATTERN = /^[a-z0-9-]{1,32}$/;

/** Names a node may not take: they name folders or peers of their own. */
export const RESERVED_NODE_IDS = ["objects", "register", "client"];

export function nodeId(text: string): NodeId {
  if (!NODE_ID_PATTERN.test(text) || RESERVED_NODE_IDS.includes(text))
    throw new EngineError("BAD_NODE_NAME", `node name ${JSON.stringify(text)}: want ${NODE_ID_PATTERN}, and none of ${RESERVED_NODE_IDS.join(", ")}`);
  return text as NodeId;
}

/** The peer that holds the signer's guard register (merge.md section 2). */
export const REGISTER = "register" as NodeId;
/** A client outside the cluster, as the sender of a request. */
export const CLIENT = "client" as NodeId;
