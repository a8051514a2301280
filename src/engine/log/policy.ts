/**
 * Trust policies (C2SP tlog-policy): which logs are known, which witnesses, and how many of them must have cosigned. A
 * text of lines `log VKEY [URL]`, `witness NAME VKEY [URL]`, `group NAME all|any|K MEMBER…`, `quorum NAME|none`.
 * A name is defined before it is used and is a member of one group at most, so a witness counts once.
 * Never asks a witness for anything: it counts the lines a checkpoint already carries.
 */
import { toHex, utf8 } from "../base/bytes.ts";
import { EngineError } from "../base/errors.ts";
import { type Checkpoint, openCheckpoint, parseCheckpoint } from "./checkpoint.ts";
import { cosignedAt } from "./cosignature.ts";
import { parseNote, parseVkey, signaturesOf, type Vkey } from "./note.ts";

/** C2SP asks for room for 32 logs, witnesses and groups each. */
const LINES_MAX = 1_024;
const LINE_LENGTH_MAX = 4_096;
const NAMES_MAX = 256;
const NONE = "none";

export type PolicyLog = { readonly vkey: Vkey; readonly url: string | null };
export type PolicyMember =
  | { readonly kind: "witness"; readonly name: string; readonly vkey: Vkey; readonly url: string | null }
  | { readonly kind: "group"; readonly name: string; readonly threshold: number; readonly members: readonly PolicyMember[] };
/** `quorum` null: no cosignature is asked for. */
export type Policy = { readonly logs: readonly PolicyLog[]; readonly witnesses: readonly Vkey[]; readonly quorum: PolicyMember | null };

export type PolicyVerdict = { readonly checkpoint: Checkpoint; readonly cosigned: readonly { readonly name: string; readonly timeSeconds: number }[] };

type Draft = { logs: PolicyLog[]; named: Map<string, PolicyMember>; used: Set<string>; keys: Set<string>; quorum: PolicyMember | null | undefined };

/** Throws LOG_ENCODING with the line. */
export function parsePolicy(text: string): Policy {
  const draft: Draft = { logs: [], named: new Map(), used: new Set(), keys: new Set(), quorum: undefined };
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a policy has no control characters but tab and LF
  if (/[\u0000-\u0008\u000b-\u001f\u007f]/.test(text)) throw new EngineError("LOG_ENCODING", "policy: a control character other than tab and line feed");
  const lines = text.split("\n");
  if (lines.pop() !== "") throw new EngineError("LOG_ENCODING", "policy: the last line is not ended by a line feed");
  if (lines.length > LINES_MAX) throw new EngineError("LOG_ENCODING", `policy: ${lines.length} lines, at most ${LINES_MAX}`);
  for (const [i, line] of lines.entries()) {
    const words = line
      .slice(0, LINE_LENGTH_MAX + 1)
      .split(/[ \t]+/)
      .filter((word) => word !== "");
    if (words[0] === undefined || words[0].startsWith("#")) continue;
    try {
      if (line.length > LINE_LENGTH_MAX) throw wrong(`${line.length} characters, at most ${LINE_LENGTH_MAX}`);
      readLine(draft, words[0], words.slice(1));
    } catch (cause) {
      throw cause instanceof EngineError ? new EngineError("LOG_ENCODING", `policy line ${i + 1}: ${cause.message}`, { cause }) : cause;
    }
  }
  if (draft.quorum === undefined) throw new EngineError("LOG_ENCODING", "policy: no quorum line; `quorum none` asks for no cosignature");
  const witnesses = [...draft.named.values()].flatMap((each) => (each.kind === "witness" ? [each.vkey] : []));
  return { logs: draft.logs, witnesses, quorum: draft.quorum };
}

function readLine(draft: Draft, keyword: string, words: readonly string[]): void {
  switch (keyword) {
    case "log":
      readLog(draft, words);
      break;
    case "witness":
      readWitness(draft, words);
      break;
    case "group":
      readGroup(draft, words);
      break;
    case "quorum":
      readQuorum(draft, words);
      break;
    default:
      throw wrong(`${JSON.stringify(keyword)}, want log, witness, group or quorum`);
  }
}

function readLog(draft: Draft, [vkeyText, url, ...more]: readonly string[]): void {
  if (vkeyText === undefined || more.length > 0) throw wrong("want log VKEY [URL]");
  draft.logs.push({ vkey: takeKey(draft, "log", vkeyText, 1), url: url ?? null });
}

function readWitness(draft: Draft, [name, vkeyText, url, ...more]: readonly string[]): void {
  if (name === undefined || vkeyText === undefined || more.length > 0) throw wrong("want witness NAME VKEY [URL]");
  define(draft, { kind: "witness", name, vkey: takeKey(draft, "witness", vkeyText, 4), url: url ?? null });
}

function readGroup(draft: Draft, [name, rule, ...names]: readonly string[]): void {
  if (name === undefined || rule === undefined || names.length === 0) throw wrong("want group NAME all|any|K MEMBER…");
  const threshold = rule === "all" ? names.length : rule === "any" ? 1 : /^[1-9][0-9]{0,3}$/.test(rule) ? Number(rule) : 0;
  if (threshold < 1 || threshold > names.length) throw wrong(`threshold ${rule}, want all, any, or 1 to ${names.length}`);
  const members = names.map((each) => {
    if (draft.used.has(each)) throw wrong(`${each} is listed a second time: a witness would count twice`);
    draft.used.add(each);
    return defined(draft, each);
  });
  define(draft, { kind: "group", name, threshold, members });
}

function readQuorum(draft: Draft, [name, ...more]: readonly string[]): void {
  if (name === undefined || more.length > 0) throw wrong("want quorum NAME or quorum none");
  if (draft.quorum !== undefined) throw wrong("a second quorum line");
  draft.quorum = name === NONE ? null : defined(draft, name);
}

/** A key of the type its line asks for, met for the first time on lines of this kind. */
function takeKey(draft: Draft, kind: "log" | "witness", text: string, type: 1 | 4): Vkey {
  const vkey = parseVkey(text);
  if (vkey.type !== type) throw wrong(`key of type ${vkey.type}, a ${kind} has one of type ${type}`);
  const slot = `${kind} ${toHex(vkey.publicKey)}`;
  if (draft.keys.has(slot)) throw wrong(`the public key of ${vkey.name} is listed a second time`);
  draft.keys.add(slot);
  return vkey;
}

function define(draft: Draft, member: PolicyMember): void {
  if (member.name === NONE || draft.named.has(member.name)) throw wrong(`the name ${member.name} is taken`);
  if (draft.named.size >= NAMES_MAX) throw wrong(`more than ${NAMES_MAX} witnesses and groups`);
  draft.named.set(member.name, member);
}

function defined(draft: Draft, name: string): PolicyMember {
  const member = draft.named.get(name);
  if (member === undefined) throw wrong(`${name} is not defined above this line`);
  return member;
}

const wrong = (what: string): EngineError => new EngineError("LOG_ENCODING", what);

// ------------------------------------------------------------------ checking

/**
 * The checkpoint, when one of the policy's logs signed it and the quorum cosigned it; `log` stands in for a policy that
 * names none. Throws LOG_SIGNATURE, naming who is missing, or LOG_ENCODING.
 */
export function checkPolicy(note: string, policy: Policy, log?: Vkey): PolicyVerdict {
  const parsed = parseNote(note);
  const logs = policy.logs.length > 0 ? policy.logs.map((each) => each.vkey) : log === undefined ? [] : [log];
  const { origin } = parseCheckpoint(parsed.body);
  const signer = logs.find((each) => each.name === origin && signaturesOf(parsed, each).length > 0);
  if (signer === undefined) {
    const [got, want] = [parsed.signatures, logs].map((list) => list.map(({ name }) => name).join(", "));
    throw new EngineError("LOG_SIGNATURE", `checkpoint of ${origin}, signed by ${got}; want one signed by its log, known are ${want}`);
  }
  const checkpoint = openCheckpoint(utf8(note), { origin: signer.name, publicKey: signer.publicKey });
  const times = new Map<Vkey, number>();
  for (const each of policy.witnesses) {
    const timeSeconds = cosignedAt(note, each);
    if (timeSeconds !== null) times.set(each, timeSeconds);
  }
  if (policy.quorum !== null && !witnessed(policy.quorum, times))
    throw new EngineError("LOG_SIGNATURE", `quorum not reached: ${shortfall(policy.quorum, times)}`);
  return { checkpoint, cosigned: [...times].map(([{ name }, timeSeconds]) => ({ name, timeSeconds })) };
}

function witnessed(member: PolicyMember, times: ReadonlyMap<Vkey, number>): boolean {
  if (member.kind === "witness") return times.has(member.vkey);
  return member.members.filter((each) => witnessed(each, times)).length >= member.threshold;
}

/** What a member that did not witness is short of, in words. */
function shortfall(member: PolicyMember, times: ReadonlyMap<Vkey, number>): string {
  if (member.kind === "witness") return `no cosignature of ${member.name}`;
  const missing = member.members.filter((each) => !witnessed(each, times));
  const got = member.members.length - missing.length;
  return `${member.name} has ${got} of ${member.threshold}, missing ${missing.map((each) => each.name).join(", ")}`;
}
