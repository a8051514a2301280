/**
 * The invariants of merge.md section 7 over a whole simulated cluster, looked at after every event: a node is read
 * again only when its disk changed. The oracle is dumb on purpose: it recomputes roots from the stored entries and
 * believes no size that a node wrote down. I1 to I7 here; I9 is the end of a seed run (`merge-seed.ts`).
 */
import { equalBytes, toHex } from "../base/bytes.ts";
import type { Hash, LogId, NodeId } from "../base/ids.ts";
import { edgeRoot, leafHashes, rootOf } from "../log/merkle.ts";
import { LogReader } from "../log/reader.ts";
import type { AddAnswer, Head } from "../merge/config.ts";
import { readCurrentSize, readLatch, readPosition, readSth } from "../merge/files.ts";
import { readEdge, rows } from "../merge/records.ts";
import { heldEntries } from "../merge/storage.ts";
import { logKeys } from "../store/keys.ts";
import { treeIterate } from "../store/tree.ts";
import { openStored } from "../store/value.ts";
import { type DiskImage, DiskSnapshot } from "./disk.ts";
import type { MergeCluster } from "./merge-world.ts";

/** A prefix of the log as somebody swore to it. */
type Sworn = { readonly root: string; readonly by: string };

export class MergeCheckers {
  private readonly cluster: MergeCluster;
  private readonly log: LogId;
  /** The primary first. */
  private readonly order: readonly NodeId[];
  private readonly seen = new Map<NodeId, DiskImage>();
  /** Leaf hashes of each stored row of pending entries that was looked at. */
  private readonly held = new WeakMap<Uint8Array, ReadonlySet<string>>();
  /** I2: root by size, over all nodes, files and notes, for ever. */
  private readonly roots = new Map<number, Sworn>();
  /** Heads that became final in a register, by size. */
  private readonly final = new Map<number, string>();
  private finalMax = -1;
  /** Sizes that must not shrink, by node and name; forgotten with the disk. */
  private readonly floors = new Map<string, number>();
  /** Prefixes that a secondary's disk held before that disk was lost: they counted when they were signed. */
  private readonly heldBefore = new Map<NodeId, number>();
  /** Entries that a storage node's disk held before it was lost: whoever counted on them did so rightly. */
  private readonly keptBefore = new Map<NodeId, ReadonlySet<string>>();
  /** Hashes in the primary's order so far, and how far they were looked at. */
  private ordered = new Set<string>();
  /** Hashes that were in the order of any folder of the primary. */
  private readonly everOrdered = new Set<string>();
  private orderedSize = 0;
  /** Hashes whose receipt a client holds, and counts on. */
  readonly receipts = new Set<string>();
  /** Set by whoever damages a disk on purpose: then a latch is no surprise. */
  doubtful = false;

  constructor(cluster: MergeCluster) {
    this.cluster = cluster;
    const { primary } = cluster.shape;
    this.order = [primary, ...cluster.nodeIds.filter((each) => each !== primary)];
    this.log = cluster.config(cluster.shape.primary).log;
  }

  /** What is wrong, or null. */
  check(): string | null {
    // the register first: what others show is held against what became final there
    for (const id of this.order) {
      const { disk } = this.cluster.world.node(id);
      const before = this.seen.get(id);
      if (disk === before) continue;
      this.seen.set(id, disk);
      const wrong = this.checkNode(id, new DiskSnapshot(disk, id), before === undefined || before.files !== disk.files);
      if (wrong !== null) return wrong;
    }
    return null;
  }

  /** A disk was wiped, or an older copy put in its place: what it held is remembered, its floors are not. */
  diskReplaced(id: NodeId): void {
    const before = this.seen.get(id);
    if (before !== undefined) this.heldBefore.set(id, Math.max(this.heldBefore.get(id) ?? 0, rows.copy(new DiskSnapshot(before, id), this.log).verifiedSize));
    if (before !== undefined) this.keptBefore.set(id, new Set([...(this.keptBefore.get(id) ?? []), ...heldEntries(new DiskSnapshot(before, id), this.log)]));
    if (this.cluster.shape.storages.includes(id) && this.cluster.shape.storagequorum === 1) this.excuse(id);
    this.seen.delete(id);
    for (const name of [...this.floors.keys()]) if (name.startsWith(`${id} `)) this.floors.delete(name);
    if (id !== this.cluster.shape.primary) return;
    this.ordered = new Set();
    this.orderedSize = 0;
  }

  /** Receipts of entries that were on this disk alone: with storagequorum 1 nobody promised that they outlive it. Later ones count. */
  private excuse(id: NodeId): void {
    const { shape, world } = this.cluster;
    const others = shape.storages.filter((each) => each !== id);
    for (const text of this.receipts)
      if (!this.everOrdered.has(text) && !others.some((each) => this.holds(each, world.node(each).disk, text))) this.receipts.delete(text);
  }

  /** I6, at the moment a receipt reaches a client: the entry is on `storagequorum` storage disks, or in the order. */
  receiptIssued(answer: AddAnswer): string | null {
    const { hashes } = answer;
    for (let at = 0; at < hashes.length; at += 32) {
      const hash = hashes.slice(at, at + 32);
      this.receipts.add(toHex(hash));
      const wrong = this.unkept(hash);
      if (wrong !== null) return `I6 ${wrong}`;
    }
    return null;
  }

  /** A receipt whose entry is not in the order, or null: asked when everything was healed. */
  receiptMissing(): string | null {
    for (const hash of this.receipts) if (!this.ordered.has(hash)) return hash;
    return null;
  }

  private unkept(hash: Hash): string | null {
    const { shape, world } = this.cluster;
    const text = toHex(hash);
    if (this.everOrdered.has(text)) return null;
    const holders = shape.storages.filter((id) => this.holds(id, world.node(id).disk, text) || this.keptBefore.get(id)?.has(text) === true);
    if (holders.length >= shape.storagequorum) return null;
    return `receipt of ${text.slice(0, 12)}: on ${holders.join(", ") || "no disk"}, storagequorum is ${shape.storagequorum}`;
  }

  private holds(id: NodeId, disk: DiskImage, text: string): boolean {
    for (const [key, stored] of treeIterate(disk.dbs.log, logKeys.pending(this.log, 0), logKeys.pending(this.log, Number.MAX_SAFE_INTEGER))) {
      const hashes = this.held.get(stored) ?? hexesOf(leafHashes(openStored(id, key, stored)));
      this.held.set(stored, hashes);
      if (hashes.has(text)) return true;
    }
    return false;
  }

  private checkNode(id: NodeId, snap: DiskSnapshot, filesChanged: boolean): string | null {
    if (id !== this.cluster.shape.primary) return this.checkCopy(id, snap);
    return this.checkOrder(snap) ?? this.checkRegister(id, snap) ?? this.checkCopy(id, snap) ?? (filesChanged ? this.checkFiles(id, snap) : null);
  }

  // ── a copy: secondaries and frontends ────────────────────────────────────────────────────────────────────────────

  private checkCopy(id: NodeId, snap: DiskSnapshot): string | null {
    const sizes = rows.copy(snap, this.log);
    if (!(sizes.verifiedSize <= sizes.storedSize && sizes.storedSize <= sizes.orderSize))
      return `I4 ${id}: verified ${sizes.verifiedSize}, stored ${sizes.storedSize}, order ${sizes.orderSize}`;
    const published = rows.published(snap, this.log);
    const cosigned = rows.cosigned(snap, this.log);
    return (
      this.grows(id, "verified", sizes.verifiedSize) ??
      this.grows(id, "published", published?.size ?? 0) ??
      this.grows(id, "cosigned", cosigned?.size ?? 0) ??
      this.oneRoot(sizes.verifiedSize, sizes.verifiedRoot, `${id} verified`, false) ??
      this.wasFinal(published, `${id} published`) ??
      this.wasFinal(cosigned, `${id} cosigned`)
    );
  }

  /** I3. */
  private grows(id: NodeId, what: string, size: number): string | null {
    const name = `${id} ${what}`;
    const floor = this.floors.get(name) ?? 0;
    if (size < floor) return `I3 ${name} ${size} after ${floor}`;
    this.floors.set(name, size);
    return null;
  }

  /** I2. What was only verified may belong to a branch that never got signed: it is held against final roots only. */
  private oneRoot(size: number, root: Hash, by: string, signed: boolean): string | null {
    if (size === 0) return null;
    const text = toHex(root);
    const known = this.roots.get(size);
    if (known !== undefined && known.root !== text && signed)
      return `I2 size ${size}: ${by} with root ${text.slice(0, 12)}, ${known.by} with ${known.root.slice(0, 12)}`;
    if (known === undefined && signed) this.roots.set(size, { root: text, by });
    return null;
  }

  /** I4: nobody shows a head that is not final. */
  private wasFinal(head: Head | null, by: string): string | null {
    if (head === null) return null;
    const wrong = this.oneRoot(head.size, head.root, by, true);
    if (wrong !== null) return wrong;
    return this.final.get(head.size) === toHex(head.root) ? null : `I4 ${by} ${head.size}, which is not final`;
  }

  // ── the primary ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** I5: no hash twice, and each entry's bytes are there. */
  private checkOrder(snap: DiskSnapshot): string | null {
    const edge = readEdge(snap, this.log);
    if (edge.size < this.orderedSize) return `I3 order ${edge.size} after ${this.orderedSize}`;
    if (edge.size === this.orderedSize) return null;
    const reader = new LogReader(snap, this.log);
    const hashes = reader.orderHashes(this.orderedSize, edge.size);
    for (let at = 0; at < hashes.length; at += 32) {
      const text = toHex(hashes.slice(at, at + 32));
      if (this.ordered.has(text)) return `I5 entry ${this.orderedSize + at / 32} is a second ${text.slice(0, 12)}`;
      this.ordered.add(text);
      this.everOrdered.add(text);
    }
    this.orderedSize = edge.size;
    if (!equalBytes(reader.rootAt(edge.size), edgeRoot(edge))) return `I4 order ${edge.size}: tiles and edge disagree`;
    return null;
  }

  /** I1, I2, I3 at the moment a head becomes final. */
  private checkRegister(id: NodeId, snap: DiskSnapshot): string | null {
    const head = rows.register(snap, this.log)?.head ?? null;
    if (head === null || this.final.get(head.size) === toHex(head.root)) return null;
    const wrong = this.oneRoot(head.size, head.root, `${id} signed`, true);
    if (wrong !== null) return wrong;
    if (head.size < this.finalMax) return `I3 signed ${head.size} after ${this.finalMax}`;
    const last = this.final.get(this.finalMax);
    if (last !== undefined && this.finalMax > 0 && toHex(new LogReader(snap, this.log).rootAt(this.finalMax)) !== last)
      return `I2 signed ${head.size} does not extend ${this.finalMax}`;
    const { secondaries, backupquorum } = this.cluster.shape;
    const able = secondaries.filter((each) => this.canProduce(each, head));
    if (able.length < backupquorum) return `I1 signed ${head.size}: only ${able.join(", ") || "nobody"} can produce it, backupquorum is ${backupquorum}`;
    this.final.set(head.size, toHex(head.root));
    this.finalMax = head.size;
    return null;
  }

  /** From the stored entries alone. */
  private canProduce(id: NodeId, head: Head): boolean {
    if (head.size === 0 || (this.heldBefore.get(id) ?? 0) >= head.size) return true;
    const snap = new DiskSnapshot(this.cluster.world.node(id).disk, id);
    if (rows.copy(snap, this.log).storedSize < head.size) return false;
    const reader = new LogReader(snap, this.log);
    const parts: Uint8Array[] = [];
    for (let at = 0; at < head.size; ) {
      const read = reader.entries(at, head.size, 1_024 * 1_024);
      parts.push(leafHashes(read.bundle));
      at = read.to;
    }
    const all = new Uint8Array(head.size * 32);
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return equalBytes(rootOf(all), head.root);
  }

  private checkFiles(id: NodeId, snap: DiskSnapshot): string | null {
    const config = this.cluster.config(id);
    const edge = readEdge(snap, this.log);
    const current = readCurrentSize(snap, config);
    if (current.kind === "ok" && current.value.size > edge.size && !this.doubtful)
      return `I4 currentsize ${current.value.size}, the order ends at ${edge.size}`;
    const sth = readSth(snap, config);
    if (sth.kind === "ok" && this.final.get(sth.value.size) !== toHex(sth.value.root)) return `I4 sth ${sth.value.size}, which is not final`;
    const latch = readLatch(snap, config);
    if (latch.kind === "ok" && !this.doubtful) return `LATCH without a fault: ${latch.value.code}: ${latch.value.detail}`;
    const reader = new LogReader(snap, this.log);
    for (const secondary of this.cluster.shape.secondaries) {
      const position = readPosition(snap, config, secondary);
      if (position.kind !== "ok" || position.value.size > edge.size) continue;
      const { size, root } = position.value;
      if (!equalBytes(reader.rootAt(size), root)) {
        if (!this.doubtful) return `I7 position.${secondary} ${size}: its root is not the order's`;
        continue;
      }
      const verified = rows.copy(new DiskSnapshot(this.cluster.world.node(secondary).disk, secondary), this.log).verifiedSize;
      if (Math.max(verified, this.heldBefore.get(secondary) ?? 0) < size) return `I7 position.${secondary} ${size}, it verified ${verified}`;
    }
    return null;
  }
}

function hexesOf(hashes: Uint8Array): ReadonlySet<string> {
  const texts = new Set<string>();
  for (let at = 0; at < hashes.length; at += 32) texts.add(toHex(hashes.slice(at, at + 32)));
  return texts;
}
