/**
 * Names a process for ever: the system's boot id and the process's start in clock ticks since then. A pid alone is used
 * again, and in a container often by the same program; this is not. Null where the system has no /proc.
 */
import { readFileSync } from "node:fs";

export function processMark(pid: number): string | null {
  try {
    const bootId = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" "); // the name before it may hold blanks
    return `${bootId}:${fields[19]}`; // starttime is field 22, and this list begins with field 3
  } catch {
    return null;
  }
}
