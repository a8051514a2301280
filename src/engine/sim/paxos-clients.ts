/**
 * Clients of a simulated cluster, and I13: what they were told is linearizable. Every value is written once, so a read
 * names its write; versions order all writes, so a history needs no search: an operation takes effect at the version it
 * names, which must not lie before anything that had ended when it began. What was refused as surely not done never happens.
 */
import { fromUtf8, utf8 } from "../base/bytes.ts";
import type { Batch } from "../base/effects.ts";
import type { NodeId } from "../base/ids.ts";
import { replicatedKeys } from "../store/keys.ts";
import type { Answer, RequestOf } from "../wire/messages.ts";
import type { PaxosCheckers } from "./paxos-checkers.ts";
import type { PaxosCall, PaxosCluster } from "./paxos-world.ts";

type Ask = RequestOf<"kv.put" | "kv.delete" | "kv.read">;
/** One request under way; `floor` is the newest version that any operation had named when it began. */
type Open = { readonly call: PaxosCall; readonly body: Ask; readonly floor: number };

export class PaxosClients {
  readonly checkers: PaxosCheckers;
  private readonly cluster: PaxosCluster;
  private readonly open: Open[] = [];
  /** Newest version that an operation which ended has named. */
  private ended = 0;
  private lastValue = 0;
  /** Values of writes that were surely not done. */
  private readonly refused = new Set<string>();
  /** How requests ended, by kind or code. */
  readonly endings = new Map<string, number>();

  constructor(cluster: PaxosCluster, checkers: PaxosCheckers) {
    this.cluster = cluster;
    this.checkers = checkers;
    checkers.onChosen = (version, ops) => this.onChosen(version, ops);
  }

  get openCount(): number {
    return this.open.length;
  }

  nextValue(): Uint8Array {
    return utf8(`v${++this.lastValue}`);
  }

  ask(node: NodeId, body: Ask): PaxosCall {
    const call = this.cluster.request(node, body);
    this.open.push({ call, body, floor: this.ended });
    return call;
  }

  /** Looks at what was answered since the last event. */
  check(): string | null {
    for (let at = 0; at < this.open.length; ) {
      const each = this.open[at] as Open;
      if (each.call.state === "waiting") {
        at++;
        continue;
      }
      this.open.splice(at, 1);
      const wrong = this.end(each);
      if (wrong !== null) return wrong;
    }
    return null;
  }

  private end({ call, body, floor }: Open): string | null {
    const answer = call.body;
    const kind = call.state === "lost" || answer === null ? "lost" : answer.kind === "refused" ? answer.code : answer.kind;
    this.endings.set(kind, (this.endings.get(kind) ?? 0) + 1);
    if (call.state === "lost" || answer === null) return null;
    const wrong = this.judge(call.node, body, floor, answer);
    return wrong === null || wrong.startsWith("I2 ") ? wrong : `I13 ${wrong}`;
  }

  private judge(node: NodeId, body: Ask, floor: number, answer: Answer): string | null {
    const key = replicatedKeys.kv(body.key);
    const name = fromUtf8(body.key);
    if (answer.kind === "refused") return answer.code === "PAXOS_NO_QUORUM" && body.kind === "kv.put" ? this.neverDone(body) : null;
    if (answer.kind === "kv.written") return this.judgeWrite(node, body, floor, answer.version);
    if (answer.kind === "kv.conflict") {
      if (this.checkers.wasAt(key, answer.version, floor)) return null;
      return `${name} was refused at ${node} for version ${answer.version}, which it had not any more at ${floor}`;
    }
    if (answer.kind !== "kv.value" || body.kind !== "kv.read") return `${answer.kind} answers ${body.kind}`;
    const wanted = this.checkers.valueAt(key, answer.readVersion);
    const isEqual = (wanted.value === null ? null : fromUtf8(wanted.value)) === (answer.value === null ? null : fromUtf8(answer.value));
    if (!isEqual) return `${name} read at ${node} at version ${answer.readVersion} is not what version ${wanted.version} wrote`;
    if (body.local) return null;
    if (answer.readVersion < floor) return `${name} read at ${node} at version ${answer.readVersion}, ${floor} had been seen before`;
    this.ended = Math.max(this.ended, answer.readVersion);
    return null;
  }

  private judgeWrite(node: NodeId, body: Ask, floor: number, version: number): string | null {
    const found = this.checkers.valueAt(replicatedKeys.kv(body.key), version);
    this.ended = Math.max(this.ended, version);
    if (body.kind === "kv.delete")
      return found.value === null && version >= floor ? null : `${fromUtf8(body.key)} deleted at ${node} is there at version ${version}`;
    if (body.kind !== "kv.put") return `kv.written answers ${body.kind}`;
    if (version <= floor) return `${fromUtf8(body.key)} written at ${node} at version ${version}, ${floor} had been seen before`;
    if (found.version !== version || found.value === null || fromUtf8(found.value) !== fromUtf8(body.value))
      return `${fromUtf8(body.key)} written at ${node} is not in version ${version}`;
    return this.checkers.told(version);
  }

  private neverDone({ value }: RequestOf<"kv.put">): string | null {
    const text = fromUtf8(value);
    this.refused.add(text);
    for (let version = 1; version <= this.checkers.newest; version++) {
      const ops = this.checkers.chosen[version]?.ops ?? [];
      if (ops.some((op) => op.op === "put" && isKv(op.key) && fromUtf8(op.value) === text)) return `${text} was surely not written, version ${version} has it`;
    }
    return null;
  }

  private onChosen(version: number, ops: Batch): string | null {
    if (this.refused.size === 0) return null;
    for (const op of ops)
      if (op.op === "put" && isKv(op.key) && this.refused.has(fromUtf8(op.value)))
        return `I13 ${fromUtf8(op.value)} was surely not written, version ${version} has it`;
    return null;
  }
}

const KV_PREFIX = replicatedKeys.kv(new Uint8Array(0));
const isKv = (key: Uint8Array): boolean => KV_PREFIX.every((byte, at) => key[at] === byte);

export const put = (key: string, value: Uint8Array, conditions: { ifMatch?: number | null; ifNoneMatch?: boolean } = {}): RequestOf<"kv.put"> => ({
  kind: "kv.put",
  key: utf8(key),
  value,
  ifMatch: conditions.ifMatch ?? null,
  ifNoneMatch: conditions.ifNoneMatch ?? false,
});

export const read = (key: string, local = false): RequestOf<"kv.read"> => ({ kind: "kv.read", key: utf8(key), local, minVersion: 0 });

export const remove = (key: string): RequestOf<"kv.delete"> => ({ kind: "kv.delete", key: utf8(key), ifMatch: null });
