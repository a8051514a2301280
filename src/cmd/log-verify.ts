/**
 * `cairn log verify`: the check of one `.tlog-proof`, offline; or the fsck of a whole log (engine/log/verify.ts), wherever
 * it lies: a C2SP folder, an address, a node's data folder, or every node of a cluster. The key is --vkey, else the one
 * that the folder or cluster itself names. Ends with exit status 7 at the first difference, and never repairs.
 */
import { readFile, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fromHex, fromUtf8, toHex } from "../engine/base/bytes.ts";
import { EngineError } from "../engine/base/errors.ts";
import { HASH_BYTES, type Hash } from "../engine/base/ids.ts";
import { openCheckpoint, parseCheckpoint } from "../engine/log/checkpoint.ts";
import { leafHash } from "../engine/log/merkle.ts";
import { NOTE_BYTES_MAX, parseNote, parseVkey, type Vkey } from "../engine/log/note.ts";
import { checkPolicy, type Policy, parsePolicy } from "../engine/log/policy.ts";
import { openProof, parseProof } from "../engine/log/proof-file.ts";
import { type LogSource, type VerifyReport, verifyLog } from "../engine/log/verify.ts";
import { type ClientCluster, logAddresses, resolveCluster } from "./cluster.ts";
import { eachCopy } from "./each-copy.ts";
import { cosignersOf, knownCosigners, logOption, mustBeMain, openLogAccess, urlSource } from "./log-client.ts";
import { countedEntries, fileError, readEntryFile, readFileUpTo } from "./log-entries.ts";
import { cosignedBy, readHead } from "./log-head.ts";
import { type Context, command } from "./spec.ts";

const PROOF_BYTES_MAX = 512 * 1_024;
const POLICY_BYTES_MAX = 1_024 * 1_024;
const PROGRESS_MS = 2_000;

const options = [
  { name: "vkey", form: "string", value: "VKEY", means: "the log's verifier key; else that of the folder or cluster" },
  { name: "entry", form: "string", value: "FILE", means: "of a proof: the entry that it proves" },
  { name: "hash", form: "string", value: "HEX", means: "of a proof: the entry's leaf hash" },
  { name: "policy", form: "string", value: "FILE", means: "a tlog-policy: its quorum must have cosigned the head" },
  { name: "cosigner", form: "string", value: "VKEY", many: true, means: "must have cosigned the head" },
  { name: "old", form: "string", value: "CHECKPOINT", many: true, means: "a file with an older head, which the log must extend" },
  { name: "size", form: "count", value: "N", means: "verify up to the head of this size instead of the newest" },
  logOption,
] as const;
type VerifyContext = Context<typeof options, readonly [{ name: "target"; optional: true; means: "" }]>;

export const logVerify = command({
  name: "log verify",
  summary: "Check a proof offline, or derive a whole log anew and find the first difference",
  args: [{ name: "target", optional: true, means: "a .tlog-proof, a folder, a node's data folder, or an address; else every node of the cluster" }],
  options,
  errors: [
    "LOG_SIGNATURE",
    "LOG_PROOF",
    "LOG_ENCODING",
    "LOG_ENTRY_MISMATCH",
    "LOG_ROOT_MISMATCH",
    "LOG_HEAD_FORK",
    "LOG_HEAD_ROLLBACK",
    "STORE_CORRUPT",
    "NOT_FOUND",
  ],
  examples: [
    "cairn log verify",
    "cairn log verify first.tlog-proof --entry README.md --vkey 'example.org/log+…'",
    "cairn log verify ./cluster/b --old seen.checkpoint",
  ],
  async run(ctx) {
    mustBeMain(ctx.options.log, "this build");
    const { target } = ctx.args;
    if (target !== undefined && !isUrl(target)) {
      const found = await stat(target).catch((cause: unknown) => {
        throw fileError(target, cause);
      });
      if (!found.isDirectory()) return verifyProof(ctx, target);
    }
    if (ctx.options.entry !== undefined || ctx.options.hash !== undefined) throw new EngineError("BAD_OPTION", "--entry and --hash go with a .tlog-proof");
    await verifyLogs(ctx, target);
  },
});

const isUrl = (text: string): boolean => /^https?:\/\//.test(text);

async function readPolicy(file: string | undefined): Promise<Policy | undefined> {
  if (file === undefined) return undefined;
  const text = decode(file, await readFileUpTo(file, POLICY_BYTES_MAX));
  return inFile(file, () => parsePolicy(text));
}

function decode(file: string, bytes: Uint8Array): string {
  try {
    return fromUtf8(bytes);
  } catch (cause) {
    throw new EngineError("LOG_ENCODING", `${file}: not valid UTF-8`, { cause });
  }
}

/** An error about what a file says names the file. */
function inFile<T>(file: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw cause instanceof EngineError ? new EngineError(cause.code, `${file}: ${cause.message}`, { cause }) : cause;
  }
}

// ------------------------------------------------------------------ one proof

async function verifyProof(ctx: VerifyContext, file: string): Promise<void> {
  const { options } = ctx;
  if (options.old.length > 0 || options.size !== undefined) throw new EngineError("BAD_OPTION", "--old and --size go with a whole log, not with a proof");
  const leaf = await leafOf(options);
  const policy = await readPolicy(options.policy);
  const text = decode(file, await readFileUpTo(file, PROOF_BYTES_MAX));
  const proof = inFile(file, () => parseProof(text));
  const vkey = await proofKey(ctx, proof.checkpoint, policy);
  const checkpoint = inFile(file, () => openProof(proof, { vkey, leaf }));
  const wanted = options.cosigner.map(cosignerKey);
  const cosigned = [...(policy === undefined ? [] : checkPolicy(proof.checkpoint, policy, vkey).cosigned)];
  for (const each of cosignedBy(new TextEncoder().encode(proof.checkpoint), wanted)) if (!cosigned.some(({ name }) => name === each.name)) cosigned.push(each);
  const missing = wanted.find(({ name }) => !cosigned.some((each) => each.name === name));
  if (missing !== undefined) throw new EngineError("LOG_SIGNATURE", `no cosignature of ${missing.name} on the checkpoint`);
  const { origin, size, root } = checkpoint;
  await ctx.answer(
    { ok: true, file, origin, index: proof.index, size, root: toHex(root), leafHash: toHex(leaf), cosigned },
    `${file}: entry ${proof.index} of ${origin}, in the head of size ${size}${cosignedText(cosigned)}`,
  );
}

async function leafOf({ entry, hash }: VerifyContext["options"]): Promise<Hash> {
  if ((entry === undefined) === (hash === undefined)) throw new EngineError("USAGE", "a proof is checked with --entry FILE or --hash HEX, one of them");
  if (entry !== undefined) return leafHash(await readEntryFile(entry));
  const bytes = hash?.length === 2 * HASH_BYTES ? fromHex(hash) : null;
  if (bytes === null) throw new EngineError("BAD_OPTION", `--hash is ${JSON.stringify(hash)}, want ${2 * HASH_BYTES} lower-case hex digits`);
  return bytes;
}

/** --vkey, else the policy's log of that origin, else the cluster's. */
async function proofKey(ctx: VerifyContext, note: string, policy: Policy | undefined): Promise<Vkey> {
  if (ctx.options.vkey !== undefined) return logKey(ctx.options.vkey);
  const { origin } = parseCheckpoint(parseNote(note).body);
  const known = policy?.logs.find(({ vkey }) => vkey.name === origin);
  if (known !== undefined) return known.vkey;
  const cluster = await resolveCluster(ctx.cluster).catch(() => null);
  if (cluster?.vkey == null) throw new EngineError("USAGE", `no key of ${origin} is known here: give it with --vkey, or a --policy that lists the log`);
  ctx.note(`with the key of ${cluster.name}`);
  return logKey(cluster.vkey);
}

const logKey = (text: string): Vkey => keyOption("--vkey", text, 1);
const cosignerKey = (text: string): Vkey => keyOption("--cosigner", text, 4);

function keyOption(name: string, text: string, type: Vkey["type"]): Vkey {
  const vkey = parsedKey(name, text);
  if (vkey.type !== type) throw new EngineError("BAD_OPTION", `${name} ${text}: a key of type ${vkey.type}, want one of type ${type}`);
  return vkey;
}

function parsedKey(name: string, text: string): Vkey {
  try {
    return parseVkey(text);
  } catch (cause) {
    throw cause instanceof EngineError ? new EngineError("BAD_OPTION", `${name}: ${cause.message}`, { cause }) : cause;
  }
}

// ------------------------------------------------------------------ whole logs

/** `cosigners` are known, not required; `close` ends what the source reads from. */
type Target = { readonly name: string; readonly source: LogSource; readonly vkey: Vkey; readonly cosigners: readonly Vkey[]; close(): Promise<void> };

/** Each copy is verified even where one before it failed; what is wrong with each is said. */
async function verifyLogs(ctx: VerifyContext, target: string | undefined): Promise<void> {
  const { options } = ctx;
  const policy = await readPolicy(options.policy);
  const old = await Promise.all(options.old.map(async (file) => ({ file, note: await readFileUpTo(file, NOTE_BYTES_MAX) })));
  const asked = { old, cosigners: options.cosigner.map(cosignerKey), ...(policy === undefined ? {} : { policy }) };
  const targets = await targetsOf(ctx, target);
  await eachCopy(ctx, targets, async (open) => verifyTarget(ctx, await open(), asked));
}

async function verifyTarget(
  ctx: VerifyContext,
  target: Target,
  asked: { readonly old: readonly { readonly file: string; readonly note: Uint8Array }[]; readonly cosigners: readonly Vkey[]; readonly policy?: Policy },
): Promise<void> {
  const startedMs = performance.now();
  let notedMs = startedMs;
  const onProgress = (done: number, size: number): void => {
    if (performance.now() - notedMs < PROGRESS_MS) return;
    notedMs = performance.now();
    ctx.note(`${target.name}: ${done} of ${size} entries`);
  };
  try {
    const { note } = await readHead(target.source, target.vkey, ctx.options.size);
    const log = { origin: target.vkey.name, publicKey: target.vkey.publicKey };
    for (const { file, note: older } of asked.old) inFile(file, () => openCheckpoint(older, log));
    const old = asked.old.map((each) => each.note);
    const report = await verifyLog(target.source, { ...asked, vkey: target.vkey, checkpoint: note, old, onProgress });
    const cosigned = [...report.cosigned];
    for (const each of cosignedBy(note, target.cosigners)) if (!cosigned.some(({ name }) => name === each.name)) cosigned.push(each);
    await answerReport(ctx, target.name, { ...report, cosigned }, performance.now() - startedMs);
  } catch (error) {
    throw error instanceof EngineError ? new EngineError(error.code, `${target.name}: ${error.message}`, { cause: error }) : error;
  } finally {
    await target.close();
  }
}

function answerReport(ctx: VerifyContext, name: string, { checkpoint, bundles, tiles, bytes, cosigned }: VerifyReport, tookMs: number): Promise<void> {
  const { origin, size, root } = checkpoint;
  const seconds = Math.round(tookMs) / 1_000;
  return ctx.answer(
    { ok: true, target: name, origin, size, root: toHex(root), entries: size, bundles, tiles, bytes, seconds, cosigned },
    `${name}: ${origin}, size ${size}, root ${toHex(root)}\n  ${countedEntries(size)}, ${tiles} ${tiles === 1 ? "tile" : "tiles"}, ${seconds} s${cosignedText(cosigned)}`,
  );
}

const cosignedText = (cosigned: VerifyReport["cosigned"]): string =>
  cosigned.length === 0 ? "" : `, cosigned by ${cosigned.map(({ name }) => name).join(", ")}`;

async function targetsOf(ctx: VerifyContext, target: string | undefined): Promise<readonly (() => Promise<Target>)[]> {
  const given = ctx.options.vkey === undefined ? null : logKey(ctx.options.vkey);
  if (target === undefined) {
    const { addresses, vkey, cluster } = await openLogAccess(ctx);
    const cosigners = await knownCosigners(cluster);
    return addresses.map((address) => async () => addressTarget(ctx, address, given ?? vkey, cosigners));
  }
  if (isUrl(target)) return [() => urlTarget(ctx, target.replace(/\/$/, ""), given)];
  const dir = resolve(target);
  if (await isFile(join(dir, "config.toml"))) return [() => nodeTarget(dir, given)];
  if (await isFile(join(dir, "cluster.json")))
    return (await resolveCluster(dir)).nodes.flatMap((node) => (node.dir === null ? [] : nodeTargetOf(node.dir, given)));
  return [() => folderTarget(dir, given)];
}

const nodeTargetOf =
  (dir: string, given: Vkey | null): (() => Promise<Target>) =>
  () =>
    nodeTarget(dir, given);
const isFile = (path: string): Promise<boolean> =>
  stat(path)
    .then((found) => found.isFile())
    .catch(() => false);
const nothing = async (): Promise<void> => {};

/** An address of the cluster is verified with the cluster's own keys, any other one with what is given. */
async function urlTarget(ctx: VerifyContext, address: string, given: Vkey | null): Promise<Target> {
  const own = await ownCluster(ctx, address);
  const vkey = given ?? (own?.vkey == null ? null : logKey(own.vkey));
  if (vkey === null) throw new EngineError("USAGE", `no key of the log at ${address} is known here: give it with --vkey`);
  return addressTarget(ctx, address, vkey, await knownCosigners(own));
}

/** The addressed cluster, when its log is at this address. */
async function ownCluster(ctx: VerifyContext, address: string): Promise<ClientCluster | null> {
  const cluster = await resolveCluster(ctx.cluster).catch(() => null);
  const addresses = cluster === null ? [] : await logAddresses(cluster, ctx.timeoutMs).catch(() => []);
  return addresses.includes(address) ? cluster : null;
}

function addressTarget(ctx: VerifyContext, address: string, vkey: Vkey, cosigners: readonly Vkey[]): Target {
  return { name: address, source: urlSource(address, ctx.timeoutMs), vkey, cosigners, close: nothing };
}

async function folderTarget(dir: string, given: Vkey | null): Promise<Target> {
  if (given === null) throw new EngineError("USAGE", `no key of the log in ${dir} is known: give it with --vkey`);
  const read = async (path: string): Promise<Uint8Array | null> => {
    try {
      return new Uint8Array(await readFile(join(dir, path)));
    } catch (cause) {
      if (cause instanceof Error && "code" in cause && (cause.code === "ENOENT" || cause.code === "ENOTDIR")) return null;
      throw fileError(join(dir, path), cause);
    }
  };
  return { name: dir, source: { read }, vkey: given, cosigners: [], close: nothing };
}

/** A node's own rows, whether it runs or not: as of one snapshot. */
async function nodeTarget(dir: string, given: Vkey | null): Promise<Target> {
  const { loadNode } = await import("../engine/node/config.ts");
  const { openDisk } = await import("../engine/node/disk.ts");
  const { logVkey } = await import("../engine/gateway/loghttp.ts");
  const { nodeSource } = await import("./node-source.ts");
  const { merge } = await loadNode(dir);
  const disk = await openDisk(dir, { create: false });
  const snap = disk.snapshot();
  const close = async (): Promise<void> => {
    snap[Symbol.dispose]();
    await disk.close();
  };
  return { name: dir, source: nodeSource(snap, merge), vkey: given ?? parseVkey(logVkey(merge)), cosigners: cosignersOf(merge), close };
}
