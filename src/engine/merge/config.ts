/**
 * What the merge's cores know of their cluster (merge.md section 2): roles, knobs, keys. Plain data, read once from
 * config.toml by `node/config.ts`; nothing here changes while a process runs.
 */
import type { Hash, LogId, NodeId } from "../base/ids.ts";

export type MergeConfig = {
  /** First 8 bytes of SHA-256(origin). */
  readonly log: LogId;
  readonly origin: string;
  /** Name of the log in commands: `main`, later `objects`. */
  readonly logName: string;
  /** Folder of the hand-over files, relative to the node's folder: `merge`, or `merge/<log name>`. */
  readonly folder: string;
  readonly self: NodeId;
  readonly epoch: number;
  /** Names this run of the node's daemon, as no other run is named; null where no daemon runs. The signer's gate stays open for one run, and a storage role's disk is named after the run that first wrote to it. */
  readonly boot: string | null;
  readonly primary: NodeId;
  /** Sorted by name, as are the next two. */
  readonly secondaries: readonly NodeId[];
  readonly storages: readonly NodeId[];
  readonly frontends: readonly NodeId[];
  /** k: so many secondaries have verified what is signed. */
  readonly backupquorum: number;
  /** So many storage nodes have an entry on disk before its receipt leaves. */
  readonly storagequorum: number;
  readonly promiseMs: number;
  readonly intervalMs: number;
  readonly cosign: "prefer" | "require";
  readonly cosignWaitMs: number;
  readonly storageKeepMs: number;
  /** Ed25519 public keys, 32 bytes: the log's, and by node the cosigner's and the receipt signer's. */
  readonly logPublicKey: Uint8Array;
  readonly cosignerKeys: Readonly<Record<string, Uint8Array>>;
  readonly receiptKeys: Readonly<Record<string, Uint8Array>>;
  /** Ed25519 seeds, 32 bytes, of this node only; the log's is null except on the primary. */
  readonly logSeed: Uint8Array | null;
  readonly cosignerSeed: Uint8Array;
  readonly receiptSeed: Uint8Array;
};

/** A head as the register and the guard records hold it. `note` is the signed checkpoint. */
export type Head = { readonly epoch: number; readonly size: number; readonly root: Hash; readonly note: Uint8Array; readonly timeMs: number };

/** The one line of JSON that a step prints: counts in entries, `waits` names what holds it back. */
export type StepResult = {
  readonly step: "fetch" | "queue" | "backup" | "dist" | "init";
  readonly log: string;
  /** The storage node or secondary it worked with, where it is for one. */
  readonly target?: string;
  /** Whether a file that another step reads has changed. */
  readonly changed: boolean;
  /** Numbers worth showing, by name: `fetched`, `sequenced`, `repeats`, `size`, `position`, `signed`, … */
  readonly counts: Readonly<Record<string, number>>;
  /** Lines for people: what waits and for whom; warnings. */
  readonly notes: readonly string[];
  /** Set where the step failed: the process ends with this code's exit status. */
  readonly error?: { readonly code: string; readonly detail: string };
};

/** Requests to the storage role from its own node's HTTP side, beside those of the wire. */
export type AddRequest = {
  readonly kind: "add";
  /** C2SP bundle of the entries as submitted. */
  readonly bundle: Uint8Array;
  /** Default: a line an entry. */
  readonly receipts?: ReceiptForm;
};
/** One line an entry that stands for itself; or one a signed batch, with the hashes that each entry's path follows from. */
export type ReceiptForm = "entry" | "batch";
/** One receipt batch signs up to 256 entries; `lines` is the receipts in the form asked for, each with LF, in the order submitted. */
export type AddAnswer = { readonly kind: "added"; readonly lines: Uint8Array; readonly hashes: Uint8Array };

/** The node says how its disk is: below 5 % or 1 GiB free the storage role accepts nothing more. */
export type SpaceRequest = { readonly kind: "space"; readonly low: boolean };
