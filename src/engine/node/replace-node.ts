/**
 * A folder for a member whose disk is lost (sync.md 3.7): the config of another member with this one as itself, a new identity
 * where the old one is gone too, and an empty store with a new birth, which has no vote until the cluster map names it. What is
 * there stays as it is: a folder with a store is refused, unless an earlier run of this was cut off, which its mark says.
 */
import { existsSync } from "node:fs";
import { mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { EngineError } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import { derivedSeed, keyPairOf, publicKeyText } from "../wire/identity.ts";
import { CONFIG_FILE, IDENTITY_FILE, LOG_KEY_FILE, loadNode } from "./config.ts";
import { createSeedFile, readSeedFile } from "./identity-file.ts";
import { createStore, type NodeKeys } from "./init-node.ts";
import { JOURNAL_FILE, removeJournal } from "./journal.ts";
import { lockFile } from "./lock.ts";
import { replaceFile } from "./replace-file.ts";

const MARK_FILE = "replacing";

export type Replacement = {
  readonly birth: Uint8Array;
  readonly keys: Pick<NodeKeys, "key" | "cosignerKey" | "receiptKey">;
  /** Whether the others must learn these keys. */
  readonly isNewIdentity: boolean;
  /** The member is in the cluster map with the new disk: from here on the folder is a node's like any other. */
  done(): Promise<void>;
};

export const hasConfig = (dir: string): boolean => existsSync(join(dir, CONFIG_FILE));

/** What `replaceNode` would find; throws what it would refuse. */
export async function checkReplaceable(dir: string, id: NodeId, siblings: readonly string[]): Promise<{ readonly isNewIdentity: boolean }> {
  const isBegun = existsSync(join(dir, MARK_FILE));
  if (existsSync(join(dir, "store", "data.mdb")) && !isBegun)
    throw new EngineError("NODE_EXISTS", `${join(dir, "store")} is there: move it away, if it is an old copy or damaged`);
  if (!hasConfig(dir) && siblings.length === 0)
    throw new EngineError("NOT_FOUND", `${join(dir, CONFIG_FILE)} is lost, and no other member's folder is here to make it from`);
  const [sibling] = siblings;
  const { merge } = await loadNode(sibling ?? dir);
  if (merge.primary === id && !existsSync(join(dir, LOG_KEY_FILE)))
    throw new EngineError("NOT_FOUND", `${id} signs the log, and ${join(dir, LOG_KEY_FILE)} is lost: bring it back first, nothing else can sign`);
  return { isNewIdentity: !existsSync(join(dir, IDENTITY_FILE)) };
}

/** Throws NODE_RUNNING, and what `checkReplaceable` does. */
export async function replaceNode(dir: string, id: NodeId, siblings: readonly string[]): Promise<Replacement> {
  const { isNewIdentity } = await checkReplaceable(dir, id, siblings);
  await mkdir(dir, { recursive: true, mode: 0o700 });
  await using _lock = await lockFile(join(dir, "lock.node"), { busy: "NODE_RUNNING" });
  await replaceFile(join(dir, MARK_FILE), `${id}\n`, 0o600);
  // what the lost disk promised is not this one's
  if (!existsSync(join(dir, "store", "data.mdb"))) await removeJournal(join(dir, JOURNAL_FILE));
  const birth = await createStore(dir);
  const path = join(dir, IDENTITY_FILE);
  const seed = isNewIdentity ? createSeedFile(path) : readSeedFile(path);
  const textOf = (each: Uint8Array): string => publicKeyText(keyPairOf(each).publicKey);
  const keys = { key: textOf(seed), cosignerKey: textOf(derivedSeed(seed, "cosigner")), receiptKey: textOf(derivedSeed(seed, "receipt")) };
  const [sibling] = siblings;
  if (!hasConfig(dir) && sibling !== undefined) await replaceFile(join(dir, CONFIG_FILE), await configFrom(sibling, id), 0o600);
  for (const each of [dir, ...siblings]) await putKeys(join(each, CONFIG_FILE), id, keys);
  await loadNode(dir); // whoever starts it later should not be the first to hear of a mistake
  return { birth, keys, isNewIdentity, done: () => rm(join(dir, MARK_FILE), { force: true }) };
}

/** Another member's file, where this one listens as that file says it is reached. */
async function configFrom(sibling: string, id: NodeId): Promise<string> {
  const { members, self } = await loadNode(sibling);
  const member = members.find(({ name }) => name === id);
  if (member === undefined)
    throw new EngineError("UNKNOWN_NODE", `${id} is no member in ${join(sibling, CONFIG_FILE)}: ${members.map(({ name }) => name).join(", ")}`);
  const text = await readFile(join(sibling, CONFIG_FILE), "utf8");
  const own = sectionOf(text, (lines) => memberName(lines) === id);
  const address = (port: string): string => own?.lines.find((line) => line.startsWith(`${port} = `)) ?? "";
  return text
    .split("\n")
    .map((line, at, lines) => {
      const section = lines.slice(0, at + 1).findLast((each) => each.startsWith("["));
      if (section === "[node]" && line === `name = ${JSON.stringify(self.name)}`) return `name = ${JSON.stringify(id)}`;
      const [port = ""] = section === "[listen]" ? (/^(peer|admin|log)(?= = )/.exec(line) ?? []) : [];
      return port === "" ? line : address(port);
    })
    .join("\n");
}

/** The member's keys as text of its section, and nothing else of a file that people write in. */
async function putKeys(path: string, id: NodeId, keys: Readonly<Record<string, string>>): Promise<void> {
  const text = await readFile(path, "utf8");
  const section = sectionOf(text, (lines) => memberName(lines) === id);
  if (section === null) throw new EngineError("UNKNOWN_NODE", `${id} is no member in ${path}`);
  const lines = section.lines.map((line) => {
    const name = Object.keys(keys).find((each) => new RegExp(`^\\s*${each}\\s*=`).test(line));
    return name === undefined ? line : `${name} = ${JSON.stringify(keys[name])}`;
  });
  const all = text.split("\n");
  const next = [...all.slice(0, section.from), ...lines, ...all.slice(section.from + section.lines.length)].join("\n");
  if (next !== text) await replaceFile(path, next, 0o600);
}

type Section = { readonly from: number; readonly lines: readonly string[] };

/** The first `[[member]]` that is wanted: its lines, up to the next section. */
function sectionOf(text: string, isWanted: (lines: readonly string[]) => boolean): Section | null {
  const all = text.split("\n");
  for (let from = all.indexOf("[[member]]"); from >= 0; from = all.indexOf("[[member]]", from + 1)) {
    const next = all.findIndex((line, at) => at > from && line.startsWith("["));
    const lines = all.slice(from, next < 0 ? all.length : next);
    if (isWanted(lines)) return { from, lines };
  }
  return null;
}

const memberName = (lines: readonly string[]): string | null => /^\s*name\s*=\s*"([^"]*)"/m.exec(lines.join("\n"))?.[1] ?? null;
