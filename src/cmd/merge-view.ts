/**
 * A merge as its nodes tell it: `/status` of all of them, checked and put into one plain value that pictures, `merge status`,
 * `merge explain` and the demo read. What a node does not say, or says in another form, is null: it may be newer than we are.
 */
import { EngineError } from "../engine/base/errors.ts";
import { askNodes, type ClientCluster, type NodeAnswer } from "./cluster.ts";

export type NodeView = {
  readonly id: string;
  readonly roles: readonly string[];
  /** Why it did not answer, or null. */
  readonly error: { readonly code: string; readonly message: string } | null;
  /** The head it serves. */
  readonly publishedSize: number | null;
  /** What it says it verified; the primary believes its position file instead. */
  readonly verifiedSize: number | null;
};

export type StandingView = { readonly secondary: string; readonly size: number; readonly timeMs: number | null; readonly why: string | null };

/** What the primary knows. */
export type PrimaryView = {
  readonly currentSize: number;
  readonly signedSize: number | null;
  readonly k: number;
  readonly standings: readonly StandingView[];
  readonly latch: { readonly code: string; readonly detail: string } | null;
  readonly gate: { readonly open: boolean; readonly floor: number } | null;
  readonly notes: readonly string[];
};

export type MergeView = {
  readonly origin: string | null;
  readonly epoch: number | null;
  readonly primary: string | null;
  /** So many storage nodes have an entry on disk before its receipt leaves. */
  readonly storagequorum: number | null;
  /** Null while the primary does not answer. */
  readonly merge: PrimaryView | null;
  readonly nodes: readonly NodeView[];
};

/** Throws UNAVAILABLE where no node answers. */
export async function askMerge(cluster: ClientCluster, timeoutMs: number): Promise<MergeView> {
  const answers = await askNodes(cluster, "/status", timeoutMs);
  if (answers.every(({ error }) => error !== null)) throw new EngineError("UNAVAILABLE", `none of the ${answers.length} nodes of ${cluster.name} answered`);
  return viewOf(answers);
}

export function viewOf(answers: readonly NodeAnswer[]): MergeView {
  const logs = answers.map(({ value }) => fields(value?.["log"]));
  const log = logs.find((each) => text(each["origin"]) !== null) ?? {};
  return {
    origin: text(log["origin"]),
    epoch: count(log["epoch"]),
    primary: text(log["primary"]),
    storagequorum: count(log["storagequorum"]),
    merge: logs.map((each) => primaryView(each["merge"])).find((each) => each !== null) ?? null,
    nodes: answers.map((answer) => nodeView(answer, rolesOf(answers))),
  };
}

/** Of a silent node the others know the roles. */
function rolesOf(answers: readonly NodeAnswer[]): ReadonlyMap<string, readonly string[]> {
  const members = answers.flatMap(({ value }) => list(value?.["members"]).map(fields));
  return new Map(members.map((member) => [text(member["id"]) ?? "", texts(member["roles"])]));
}

function nodeView({ node, value, error }: NodeAnswer, roles: ReadonlyMap<string, readonly string[]>): NodeView {
  const log = fields(value?.["log"]);
  const id = text(value?.["id"]) ?? node.id;
  return {
    id,
    roles: value === null ? (roles.get(id) ?? []) : texts(value["roles"]),
    error: error === null ? null : { code: error.code, message: error.message },
    publishedSize: count(log["publishedSize"]),
    verifiedSize: count(log["verifiedSize"]),
  };
}

export function primaryView(value: unknown): PrimaryView | null {
  const merge = fields(value);
  const k = count(merge["k"]);
  if (k === null) return null;
  const latch = fields(merge["latch"]);
  const latchCode = text(latch["code"]);
  const gate = fields(merge["gate"]);
  return {
    currentSize: count(merge["currentSize"]) ?? 0, // as dist reads a file that is missing
    signedSize: count(merge["signedSize"]),
    k,
    standings: list(merge["standings"]).flatMap(standingView),
    latch: latchCode === null ? null : { code: latchCode, detail: text(latch["detail"]) ?? "" },
    gate: typeof gate["open"] === "boolean" ? { open: gate["open"], floor: count(gate["floor"]) ?? 0 } : null,
    notes: texts(merge["notes"]),
  };
}

function standingView(value: unknown): StandingView[] {
  const { secondary, size, timeMs, why } = fields(value);
  const name = text(secondary);
  return name === null ? [] : [{ secondary: name, size: count(size) ?? 0, timeMs: count(timeMs), why: text(why) }];
}

const fields = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
const text = (value: unknown): string | null => (typeof value === "string" ? value : null);
const texts = (value: unknown): readonly string[] => list(value).filter((each) => typeof each === "string");
const count = (value: unknown): number | null => (typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : null);
