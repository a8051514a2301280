/**
 * A node's settings: `config.toml` of its folder, the seeds beside it, and what follows from both (architecture.md
 * section 7, knobs of merge.md section 2). Strict: an unknown key, a wrong form or a contradiction is BAD_CONFIG naming
 * file, line and key. Relations between limits are checked here, once. Nothing here changes while a process runs.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { equalBytes, fromHex, toHex, utf8 } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import { HASH_BYTES, type LogId, NODE_ID_PATTERN, type NodeId, nodeId } from "../base/ids.ts";
import type { MergeConfig } from "../merge/config.ts";
import type { Member as Voter } from "../paxos/cluster-map.ts";
import { derivedSeed, keyPairOf, parsePublicKey, publicKeyText } from "../wire/identity.ts";
import { BIRTH_BYTES } from "./birth.ts";
import { type Endpoint, endpointText, isLoopback, parseEndpoint } from "./endpoint.ts";
import { readSeedFile } from "./identity-file.ts";
import { readRunning } from "./running.ts";
import { choiceForm, countForm, type Form, listForm, type Setting, TomlFile, type TomlSection, textForm } from "./toml-section.ts";

export const CONFIG_FILE = "config.toml";
export const IDENTITY_FILE = "identity";
export const LOG_KEY_FILE = "log.key";

/** A hundred nodes are far beyond what one primary distributes to; each costs a link and two processes. */
const MEMBERS_MAX = 64;
const HOUR_MS = 3_600_000;
/** On the wire it has 32 bits; nobody replaces that many members. */
const MEMBER_NUMBER_MAX = 1_000_000;
const ADMIN_TOKEN = /^[\x21-\x7e]{16,256}$/;

export const ROLES = ["primary", "secondary", "storage", "frontend"] as const;
export type Role = (typeof ROLES)[number];

export type Member = {
  readonly name: NodeId;
  readonly roles: readonly Role[];
  readonly peer: Endpoint;
  readonly log: Endpoint;
  readonly admin: Endpoint;
  /** Ed25519 public keys, 32 bytes: of its links, its cosignatures and its receipts. */
  readonly key: Uint8Array;
  readonly cosignerKey: Uint8Array;
  readonly receiptKey: Uint8Array;
  /** As a voter (sync.md 3.1 and 3.7): never another member's again; and the 8 bytes that name the disk it began with. */
  readonly number: number;
  readonly birth: Uint8Array;
};

export type NodeConfig = {
  readonly dir: string;
  /** 32 bytes. */
  readonly clusterId: Uint8Array;
  readonly self: Member;
  /** Sorted by name, this node among them. */
  readonly members: readonly Member[];
  readonly listen: { readonly peer: Endpoint; readonly admin: Endpoint; readonly log: Endpoint };
  /** Asked of every admin request where it is set; it must be where admin is not on loopback. */
  readonly adminToken: string | null;
  /** Ed25519 seed of this node's links. */
  readonly seed: Uint8Array;
  readonly merge: MergeConfig;
  /** What this node asks for where it must copy another one's store: all of it, or what differs (sync.md section 4.5). */
  readonly syncMode: "full" | "delta";
  /** Every setting in force, in the order of the file, with its origin. */
  readonly settings: readonly Setting[];
};

const nameForm: Form<NodeId> = {
  what: `a node name, ${NODE_ID_PATTERN}`,
  parse: (value) => (typeof value === "string" && NODE_ID_PATTERN.test(value) ? nodeId(value) : null),
};
const hexForm = (bytes: number): Form<Uint8Array> => ({
  what: `${bytes} bytes in lower-case hex`,
  parse: (value) => (typeof value === "string" && value.length === 2 * bytes ? fromHex(value) : null),
});
const endpointForm: Form<Endpoint> = { what: "HOST:PORT", parse: (value) => (typeof value === "string" ? parseEndpoint(value) : null) };
const keyForm: Form<Uint8Array> = {
  what: "a public key, ed25519: and base64",
  parse: (value) => {
    try {
      return typeof value === "string" ? parsePublicKey(value) : null;
    } catch {
      return null; // the section says it, with file and line
    }
  },
};

/** Reads and checks a node's folder. */
export async function loadNode(dir: string): Promise<NodeConfig> {
  const path = join(dir, CONFIG_FILE);
  const file = new TomlFile(path, await readText(path));
  const cluster = file.root.table("cluster");
  const clusterId = cluster.take("id", hexForm(32));
  const origin = cluster.takeOr("origin", originForm, defaultOrigin(clusterId), "default: from cluster.id");
  const epoch = cluster.takeOr("epoch", countForm(1, Number.MAX_SAFE_INTEGER), 1);
  const logPublicKey = cluster.take("logKey", keyForm);
  const node = file.root.table("node");
  const name = node.take("name", nameForm);
  const listening = readListen(file.root.table("listen"));
  const mergeSection = file.root.table("merge");
  const syncSection = file.root.table("sync");
  const memberSections = file.root.tables("member");
  if (memberSections.length > MEMBERS_MAX) memberSections[MEMBERS_MAX]?.refuse("name", `is member ${MEMBERS_MAX + 1}: at most ${MEMBERS_MAX}`);
  const members = memberSections.map(readMember).sort((a, b) => (a.name < b.name ? -1 : 1));
  checkMembers(file, members);
  const self = members.find((member) => member.name === name) ?? node.refuse("name", `is ${name}, which is none of the members`);
  const withRole = (role: Role): readonly NodeId[] => members.filter((member) => member.roles.includes(role)).map((member) => member.name);
  const [primary] = withRole("primary");
  if (primary === undefined) return file.refuse(0, "no member has the role primary");
  const knobs = readKnobs(mergeSection, withRole("secondary"), withRole("storage"));
  const syncMode = syncSection.takeOr("mode", choiceForm("full", "delta"), "full");
  for (const section of [file.root, cluster, node, mergeSection, syncSection]) section.end();

  const seed = readSeedFile(join(dir, IDENTITY_FILE));
  checkKey(node, seed, self);
  const keysOf = (pick: (member: Member) => Uint8Array): Record<string, Uint8Array> => Object.fromEntries(members.map((each) => [each.name, pick(each)]));
  const merge: MergeConfig = {
    log: logIdOf(origin),
    origin,
    logName: "main",
    folder: "merge",
    self: name,
    epoch,
    boot: (await readRunning(dir))?.boot ?? null,
    primary,
    secondaries: withRole("secondary"),
    storages: withRole("storage"),
    frontends: withRole("frontend"),
    ...knobs,
    logPublicKey,
    cosignerKeys: keysOf((member) => member.cosignerKey),
    receiptKeys: keysOf((member) => member.receiptKey),
    logSeed: name === primary ? readLogSeed(dir, logPublicKey) : null,
    cosignerSeed: derivedSeed(seed, "cosigner"),
    receiptSeed: derivedSeed(seed, "receipt"),
  };
  return { dir, clusterId, self, members, ...listening, seed, merge, syncMode, settings: file.settings };
}

/** The members as Paxos knows them before its first version: their order of rank is that of their numbers. */
export const votersOf = ({ members }: NodeConfig): Voter[] => members.map(({ name, number, birth }) => ({ id: name, number, rank: number, birth }));

/** Origin of the log `main` where none is configured. */
export const defaultOrigin = (clusterId: Uint8Array): string => `cairn/${toHex(clusterId.subarray(0, 4))}`;

/** First 8 bytes of SHA-256(origin). */
export function logIdOf(origin: string): LogId {
  const hash = new Uint8Array(HASH_BYTES);
  Bun.SHA256.hash(utf8(origin), hash);
  return hash.slice(0, 8);
}

/** C2SP: an origin has no plus sign and no white space, since vkeys and notes use both. */
const originForm = textForm("an origin of up to 200 visible characters without +", /^[\x21-\x2a\x2c-\x7e]{1,200}$/);

function readListen(section: TomlSection): Pick<NodeConfig, "listen" | "adminToken"> {
  const listen = { peer: section.take("peer", endpointForm), admin: section.take("admin", endpointForm), log: section.take("log", endpointForm) };
  const adminToken = section.maybe("adminToken", textForm("16 to 256 visible characters", ADMIN_TOKEN));
  if (!isLoopback(listen.admin.host) && adminToken === null)
    section.refuse("admin", `is ${endpointText(listen.admin)}, which others reach: set listen.adminToken, or listen on 127.0.0.1`);
  section.end();
  return { listen, adminToken };
}

function readMember(section: TomlSection): Member {
  const member = {
    name: section.take("name", nameForm),
    roles: section.take("roles", listForm(choiceForm(...ROLES))),
    peer: section.take("peer", endpointForm),
    log: section.take("log", endpointForm),
    admin: section.take("admin", endpointForm),
    key: section.take("key", keyForm),
    cosignerKey: section.take("cosignerKey", keyForm),
    receiptKey: section.take("receiptKey", keyForm),
    number: section.take("number", countForm(1, MEMBER_NUMBER_MAX)),
    birth: section.take("birth", hexForm(BIRTH_BYTES)),
  };
  if (member.roles.includes("primary") && member.roles.includes("secondary"))
    section.refuse("roles", "has primary and secondary: a copy on the primary itself proves nothing");
  section.end();
  return member;
}

/** What no two members have alike, as it stands in the file. */
const memberText = {
  name: (member: Member): string => member.name,
  peer: (member: Member): string => endpointText(member.peer),
  key: (member: Member): string => publicKeyText(member.key),
  number: (member: Member): string => String(member.number),
  birth: (member: Member): string => toHex(member.birth),
};

function checkMembers(file: TomlFile, members: readonly Member[]): void {
  for (const what of ["name", "peer", "key", "number", "birth"] as const) {
    const seen = new Map<string, NodeId>();
    for (const member of members) {
      const value = memberText[what](member);
      const other = seen.get(value);
      if (other !== undefined) file.refuse(0, `members ${other} and ${member.name} have the same ${what}, ${value}`);
      seen.set(value, member.name);
    }
  }
  const primaries = members.filter((member) => member.roles.includes("primary")).map((member) => member.name);
  if (primaries.length > 1) file.refuse(0, `one member is the primary, not ${primaries.join(" and ")}`);
}

type Knobs = Pick<MergeConfig, "backupquorum" | "storagequorum" | "promiseMs" | "intervalMs" | "cosign" | "cosignWaitMs" | "storageKeepMs">;

function readKnobs(section: TomlSection, secondaries: readonly NodeId[], storages: readonly NodeId[]): Knobs {
  const duration = countForm(1, 365 * 24 * HOUR_MS);
  const merge: Knobs = {
    backupquorum: section.takeOr("backupquorum", countForm(0, MEMBERS_MAX), Math.min(1, secondaries.length)),
    storagequorum: section.takeOr("storagequorum", countForm(1, MEMBERS_MAX), Math.min(2, storages.length)),
    promiseMs: section.takeOr("promiseMs", duration, 60_000),
    intervalMs: section.takeOr("intervalMs", duration, 50),
    cosign: section.takeOr("cosign", choiceForm("prefer", "require"), "prefer"),
    cosignWaitMs: section.takeOr("cosignWaitMs", duration, 200),
    storageKeepMs: section.takeOr("storageKeepMs", duration, HOUR_MS),
  };
  if (merge.backupquorum > secondaries.length)
    throw new EngineError(
      "MERGE_QUORUM_IMPOSSIBLE",
      `backupquorum is ${merge.backupquorum}, and there are ${secondaries.length} secondaries (${secondaries.join(", ")})`,
    );
  if (storages.length === 0) section.refuse("storagequorum", "has nothing to count: no member has the role storage");
  if (merge.storagequorum > storages.length)
    section.refuse("storagequorum", `is ${merge.storagequorum}, and there are ${storages.length} storage nodes (${storages.join(", ")})`);
  // Admission stops when the oldest pending entry has used half its promise: one round must fit well below that.
  const roundMs = merge.intervalMs + merge.cosignWaitMs;
  if (roundMs * 4 > merge.promiseMs) section.refuse("promiseMs", `is ${merge.promiseMs}: want at least 4 × (intervalMs + cosignWaitMs) = ${roundMs * 4}`);
  if (merge.storageKeepMs < merge.promiseMs) section.refuse("storageKeepMs", `is ${merge.storageKeepMs}, less than promiseMs, ${merge.promiseMs}`);
  return merge;
}

function checkKey(node: TomlSection, seed: Uint8Array, self: Member): void {
  const own = keyPairOf(seed).publicKey;
  if (!equalBytes(own, self.key))
    node.refuse("name", `is ${self.name}, whose key is ${publicKeyText(self.key)}; the file ${IDENTITY_FILE} gives ${publicKeyText(own)}`);
}

function readLogSeed(dir: string, logPublicKey: Uint8Array): Uint8Array {
  const path = join(dir, LOG_KEY_FILE);
  const seed = readSeedFile(path);
  const own = keyPairOf(seed).publicKey;
  if (!equalBytes(own, logPublicKey))
    throw new EngineError("BAD_CONFIG", `${path} gives the public key ${publicKeyText(own)}, cluster.logKey is ${publicKeyText(logPublicKey)}`);
  return seed;
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new EngineError("NOT_FOUND", `${path}: no node's folder: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}
