/**
 * What the processes of a cluster cost, read from /proc (merge.md section 8): CPU time, bytes written to disk, largest
 * resident memory, by the part each process plays: a node's daemon, a step of the merge, the loop, `up` itself. Looks a few
 * times a second, so a process that ended keeps what it was seen with. Linux only; of a process it only resets the peak.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";

export type Usage = { readonly cpuMicros: number; readonly writtenBytes: number; readonly peakBytes: number };
type Seen = Usage & { readonly part: string /** Since the peaks were reset. */; readonly lateBytes: number };

/** USER_HZ: Linux tells CPU time to every program in hundredths of a second. */
const TICK_MICROS = 10_000;
const SAMPLE_MS = 250;
/** What Linux takes for "peak resident memory starts again at what is resident now" (proc(5), clear_refs). */
const RESET_PEAK = "5\n";

/** Watches a process and all below it. */
export class UsageWatch implements Disposable {
  private readonly root: number;
  private readonly seen = new Map<number, Seen>();
  private readonly timer: ReturnType<typeof setInterval>;

  constructor(root: number) {
    this.root = root;
    this.look();
    this.timer = setInterval(() => this.look(), SAMPLE_MS);
  }

  [Symbol.dispose](): void {
    clearInterval(this.timer);
  }

  /** Sums by part, as of now. Memory is that of the part's largest process. */
  byPart(): ReadonlyMap<string, Usage> {
    this.look();
    const parts = new Map<string, Usage>();
    for (const { part, cpuMicros, writtenBytes, peakBytes } of this.seen.values()) {
      const sum = parts.get(part) ?? { cpuMicros: 0, writtenBytes: 0, peakBytes: 0 };
      parts.set(part, {
        cpuMicros: sum.cpuMicros + cpuMicros,
        writtenBytes: sum.writtenBytes + writtenBytes,
        peakBytes: Math.max(sum.peakBytes, peakBytes),
      });
    }
    return parts;
  }

  /** The largest process since this was asked last, and which part it plays. */
  peakSinceLast(): { readonly part: string; readonly bytes: number } {
    this.look();
    let peak = { part: "", bytes: 0 };
    for (const [pid, seen] of this.seen) {
      if (seen.lateBytes > peak.bytes) peak = { part: seen.part, bytes: seen.lateBytes };
      this.seen.set(pid, { ...seen, lateBytes: 0 });
      try {
        writeFileSync(`/proc/${pid}/clear_refs`, RESET_PEAK);
      } catch {
        // it ended, or peaks cannot be reset here: they then stay those of the whole run
      }
    }
    return peak;
  }

  private look(): void {
    const children = childrenByParent();
    const pids = [this.root];
    for (const pid of pids) {
      pids.push(...(children.get(pid) ?? []));
      const found = readProcess(pid);
      if (found === null) continue;
      this.seen.set(pid, { ...found, peakBytes: Math.max(found.peakBytes, this.seen.get(pid)?.peakBytes ?? 0) });
    }
  }
}

/** This process alone: the client of a bench. */
export function ownCpuMicros(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

function childrenByParent(): Map<number, number[]> {
  const children = new Map<number, number[]>();
  for (const name of readdirSync("/proc")) {
    const pid = Number(name);
    const parent = Number.isNaN(pid) ? undefined : statFields(pid)?.[1];
    if (parent === undefined) continue;
    const known = children.get(Number(parent));
    if (known === undefined) children.set(Number(parent), [pid]);
    else known.push(pid);
  }
  return children;
}

/** The fields behind the command's name, which may itself hold blanks: state, ppid, … */
function statFields(pid: number): string[] | null {
  const stat = readText(pid, "stat");
  return stat === null ? null : stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

function readProcess(pid: number): Seen | null {
  const [fields, words, status] = [statFields(pid), readText(pid, "cmdline"), readText(pid, "status")];
  if (fields === null || words === null || words === "" || status === null) return null; // it ended just now
  const peakBytes = numberBehind(status, "VmHWM:") * 1_024;
  return {
    part: partOf(words.split("\0")),
    cpuMicros: (Number(fields[11]) + Number(fields[12])) * TICK_MICROS,
    writtenBytes: numberBehind(readText(pid, "io") ?? "", "write_bytes:"),
    peakBytes,
    lateBytes: peakBytes,
  };
}

/** `node.a`, `fetch.a`, `queue`, `backup.b`, `dist`, `loop`, `up`. */
function partOf(words: readonly string[]): string {
  const at = words.findIndex((word) => word === "node" || word === "merge" || word === "up");
  const behind = (flag: string): string => basename(words[words.indexOf(flag) + 1] ?? "");
  const step = words[at + 1] ?? "";
  if (words[at] === "node") return `node.${behind("--dir")}`;
  if (words[at] !== "merge") return words[at] ?? "other";
  if (step === "fetch") return `fetch.${behind("--storage")}`;
  if (step === "backup") return `backup.${behind("--secondary")}`;
  return step === "run" ? "loop" : step;
}

function numberBehind(text: string, label: string): number {
  const at = text.indexOf(label);
  return at < 0 ? 0 : Number.parseInt(text.slice(at + label.length), 10);
}

function readText(pid: number, file: string): string | null {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    return null; // it ended
  }
}
