/**
 * The nodes of a simulated world and what rests with them: disk, its faults, saved copies of the folder, wall clock.
 * Nothing happens here: the world runs the processes.
 */
import type { Core } from "../base/effects.ts";
import { EngineError } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import { invariant } from "../base/invariant.ts";
import { type DiskImage, emptyDisk } from "./disk.ts";
import type { DiskFaults, SimNode } from "./process.ts";

export class NodeTable<In, Ans, Send, Reply> {
  readonly nodes = new Map<NodeId, SimNode<In, Ans, Send, Reply>>();

  /** A node that is down, with the long-running processes it will start: `daemon`, and `register` where it keeps one. */
  addNode(id: NodeId, services: Readonly<Record<string, () => Core<In, Ans, Send, Reply>>>, disk: DiskImage = emptyDisk): void {
    invariant(!this.nodes.has(id), `node ${id} is added once`);
    const faults = { paused: false, full: false, fullNext: 0, failNext: 0 };
    const empty = { saved: new Map(), running: new Map<string, number>() };
    this.nodes.set(id, { id, disk, faults, ...empty, services: new Map(Object.entries(services)), clockSkewMs: 0, clockRate: 1, paused: false });
  }

  node(id: NodeId): SimNode<In, Ans, Send, Reply> {
    const node = this.nodes.get(id);
    if (node === undefined) throw new EngineError("UNKNOWN_NODE", `node ${id}: there are ${[...this.nodes.keys()].sort().join(", ")}`);
    return node;
  }

  nodeIds(): NodeId[] {
    return [...this.nodes.keys()].sort();
  }

  runningOn(id: NodeId): string[] {
    return [...this.node(id).running.keys()].sort();
  }

  diskOf(id: NodeId): DiskImage {
    return this.node(id).disk;
  }

  changeDisk(id: NodeId, change: (disk: DiskImage) => DiskImage): void {
    this.node(id).disk = change(this.node(id).disk);
  }

  diskFaults(id: NodeId): DiskFaults {
    return this.node(id).faults;
  }

  skewClock(id: NodeId, byMs: number): number {
    this.node(id).clockSkewMs += byMs;
    return this.node(id).clockSkewMs;
  }

  /** Keeps a copy of the node's folder under a name. */
  saveFolder(id: NodeId, name: string): void {
    this.node(id).saved.set(name, this.node(id).disk);
  }

  /** Puts a folder in place of the node's: a copy saved earlier, or with null an empty one. The node must be down. */
  restoreFolder(id: NodeId, name: string | null): void {
    const { running, saved } = this.node(id);
    if (running.size > 0) throw new EngineError("NODE_RUNNING", `${id} runs ${this.runningOn(id).join(", ")}: crash it first`);
    const disk = name === null ? emptyDisk : saved.get(name);
    if (disk === undefined) throw new EngineError("NOT_FOUND", `${id} has no saved folder ${name}: there are ${[...saved.keys()].join(", ") || "none"}`);
    this.node(id).disk = disk;
  }
}
