/** What the driver's contract does not reach: several writes of one step, many at once, the bound, and how lives end. */
import { expect, test } from "bun:test";
import type { Core, Effect, Event, Snapshot } from "../../src/engine/base/effects.ts";
import { EngineError } from "../../src/engine/base/errors.ts";
import { CLIENT, type NodeId, nodeId } from "../../src/engine/base/ids.ts";
import type { Disk, DiskWrite } from "../../src/engine/node/disk.ts";
import { openDriver } from "../../src/engine/node/driver.ts";
import { openPeers, type PeerLink } from "../../src/engine/node/peers.ts";
import type { Answer, Request } from "../../src/engine/wire/messages.ts";

type Write = { readonly write: DiskWrite; end(error?: EngineError): void };
/** A disk on which every write waits until the test ends it. */
class HandDisk {
  readonly writes: Write[] = [];
  readonly disk: Pick<Disk, "snapshot" | "write">;
  constructor() {
    const snap = {
      get: () => undefined,
      peek: () => undefined,
      row: () => undefined,
      wroteAt: () => undefined,
      range: () => [],
      fileSize: () => null,
      fileRead: () => null,
      fileList: () => [],
      [Symbol.dispose]: () => {},
    } satisfies Snapshot & Disposable;
    this.disk = {
      snapshot: () => snap,
      write: (write) =>
        new Promise((resolve, reject) => {
          this.writes.push({ write, end: (error) => (error === undefined ? resolve() : reject(error)) });
        }),
    };
  }
}

type ToyEffect = Effect<never, string>;
/** A core whose requests are the effects to give back; it keeps the names of what it hears. */
function obedient(): { core: Core<readonly ToyEffect[], never, never, string>; heard: string[] } {
  const heard: string[] = [];
  const step = (event: Event<readonly ToyEffect[], never>): readonly ToyEffect[] => {
    heard.push("ticket" in event ? `${event.kind} ${event.ticket}` : event.kind);
    return event.kind === "request" ? event.body.map((effect) => (effect.kind === "answer" ? { ...effect, id: event.id } : effect)) : [];
  };
  return { core: { name: "obedient", step }, heard };
}
const nowhere = () => ({ send: () => {}, close: () => {} });
const put = (ticket: number, db: "log" | "local" | "accepts" = "log", file?: string): ToyEffect => ({
  kind: "write",
  ticket,
  db,
  batch: [{ op: "del", key: Uint8Array.of(1) }],
  ...(file === undefined ? {} : { files: [{ change: "rename", file, to: "x" }] }),
});
const say = (body: string): ToyEffect => ({ kind: "answer", id: 0, body });
const full = new EngineError("STORE_FULL", "as told");
const soon = (): Promise<void> => Bun.sleep(2);

test("duty 2: what follows two writes waits for both, and never happens when the first was refused", async () => {
  const { core, heard } = obedient();
  const hand = new HandDisk();
  const driver = openDriver({ core, disk: hand.disk, connect: nowhere });
  let answer = "";
  driver.request(CLIENT, [put(1), put(2), say("both")]).then(
    (text) => {
      answer = text;
    },
    () => {},
  );
  hand.writes[0]?.end(full);
  hand.writes[1]?.end();
  await soon();
  expect(heard).toEqual(["request", "full 1", "stored 2"]);
  expect(answer).toBe("");
  await driver.close();
});

test("duty 3: plain commits of one database go to the disk together, everything else waits for what is before it", async () => {
  const { core, heard } = obedient();
  const hand = new HandDisk();
  const driver = openDriver({ core, disk: hand.disk, connect: nowhere });
  driver.request(CLIENT, [put(1), put(2), put(3, "local"), put(4, "log", "merge/file"), put(5), put(6)]).catch(() => {});
  const asked = (): number[] => hand.writes.map((_, at) => at + 1);
  expect(asked()).toEqual([1, 2]);
  hand.writes[1]?.end();
  await soon();
  expect(heard).toEqual(["request"]); // the second is told after the first
  hand.writes[0]?.end();
  await soon();
  expect(heard).toEqual(["request", "stored 1", "stored 2"]);
  expect(asked()).toEqual([1, 2, 3]);
  hand.writes[2]?.end();
  await soon();
  expect(hand.writes[3]?.write.files).toHaveLength(1);
  expect(asked()).toEqual([1, 2, 3, 4]);
  hand.writes[3]?.end();
  await soon();
  hand.writes[4]?.end();
  await soon();
  hand.writes[5]?.end();
  await soon();
  expect(heard.at(-1)).toBe("stored 6");
  await driver.close();
});

test("duty 3: writes of accepts wait for each other and for no other write, but for one that their own step lists before them", async () => {
  const { core, heard } = obedient();
  const hand = new HandDisk();
  const driver = openDriver({ core, disk: hand.disk, connect: nowhere });
  const answers: string[] = [];
  const ask = (...effects: ToyEffect[]): void =>
    void driver.request(CLIENT, effects).then(
      (text) => answers.push(text),
      () => {},
    );
  ask(put(1));
  ask(put(2, "accepts"), say("quick"));
  expect(hand.writes.length).toBe(2);
  hand.writes[1]?.end();
  await soon();
  expect([answers, heard.at(-1)]).toEqual([["quick"], "stored 2"]);
  ask(put(3, "local"), put(4, "accepts"), say("both"));
  ask(put(5, "accepts"), say("later"));
  ask(put(6, "accepts"), put(7), say("mixed"));
  expect(hand.writes.length).toBe(2); // 3 stands behind 1, 4 behind 3, 5 and 6 behind 4, 7 behind 6
  for (let at = 0; at < 7; at++) {
    if (at !== 1) hand.writes[at]?.end();
    await soon();
  }
  expect(heard.filter((name) => name.startsWith("stored"))).toEqual(["stored 2", "stored 1", "stored 3", "stored 4", "stored 5", "stored 6", "stored 7"]);
  expect(answers).toEqual(["quick", "both", "later", "mixed"]);
  await driver.close();
});

test("duty 4: after a failed write nothing that waits is handed to the disk any more", async () => {
  const { core } = obedient();
  const hand = new HandDisk();
  const driver = openDriver({ core, disk: hand.disk, connect: nowhere });
  const asked = driver.request(CLIENT, [put(1), put(2, "local"), say("never")]);
  hand.writes[0]?.end(new EngineError("STORE_CORRUPT", "pages"));
  expect(await driver.ended).toEqual({ kind: "halt", code: "STORE_SYNC_FAILED", detail: "pages" });
  await expect(asked).rejects.toMatchObject({ code: "NOT_READY" });
  await driver.close();
  expect(hand.writes).toHaveLength(1);
  await expect(driver.request(CLIENT, [])).rejects.toMatchObject({ code: "NOT_READY" });
});

test("a broken invariant halts, and is not swallowed", async () => {
  const core: Core<never, never, never, string> = {
    name: "broken",
    step: () => {
      throw new Error("it cannot be");
    },
  };
  const driver = openDriver({ core, disk: new HandDisk().disk, connect: nowhere });
  driver.start();
  expect(await driver.ended).toMatchObject({ kind: "halt", code: "FAILED", detail: expect.stringContaining("it cannot be") });
});

test("requests that wait are bounded", async () => {
  const { core } = obedient();
  const driver = openDriver({ core, disk: new HandDisk().disk, connect: nowhere });
  let refused: unknown = null;
  for (let at = 0; at < 20_000 && refused === null; at++) {
    driver.request(CLIENT, []).catch((error: EngineError) => {
      if (error.code === "LOG_BUSY") refused ??= error;
    });
    if (at > 16_000) await Promise.resolve();
  }
  expect(refused).toMatchObject({ code: "LOG_BUSY" });
  await driver.close();
});

const REQUEST: Request = { kind: "storage.ready", log: new Uint8Array(8), epoch: 1, lastSeq: 0 };
const ANSWER: Answer = { kind: "storage.noted" };

test("a peer's links: one at a time, held sends while the next one waits, one loss told for each that was tried", async () => {
  type Opened = { sent: number[]; lose(): void; answer(id: number): void };
  const opened: Opened[] = [];
  const lost: string[] = [];
  const answered: number[] = [];
  const peers = openPeers({
    open: (_to, on): PeerLink => {
      const link: Opened = { sent: [], lose: () => on.lost(new EngineError("UNAVAILABLE", "gone")), answer: (id) => on.answer(id, ANSWER) };
      opened.push(link);
      return { send: (id) => link.sent.push(id), close: () => {} };
    },
    message: (_from, id) => answered.push(id),
    lost: (peer: NodeId) => lost.push(peer),
  });
  const b = nodeId("b");
  peers.send(b, 1, REQUEST);
  peers.send(b, 2, REQUEST);
  expect(opened.map(({ sent }) => sent)).toEqual([[1, 2]]);
  opened[0]?.lose();
  expect(lost).toEqual(["b"]);
  for (let id = 3; id < 200; id++) peers.send(b, id, REQUEST);
  expect(opened).toHaveLength(1);
  while (opened.length < 2) await Bun.sleep(5);
  expect(opened[1]?.sent).toEqual(Array.from({ length: 64 }, (_, at) => at + 3)); // as many as are held
  opened[1]?.answer(3);
  expect(answered).toEqual([3]);
  opened[1]?.lose();
  expect(lost).toEqual(["b", "b"]);
  peers.close();
  await Bun.sleep(120);
  expect(opened).toHaveLength(2);
});

test("a peer that nobody knows is lost, not an exception in the middle of a step", () => {
  const lost: string[] = [];
  const peers = openPeers({
    open: () => {
      throw new EngineError("UNKNOWN_NODE", "z");
    },
    message: () => {},
    lost: (peer) => lost.push(peer),
  });
  peers.send(nodeId("z"), 1, REQUEST);
  expect(lost).toEqual(["z"]);
  peers.close();
});

test("duty 11: requests that join wait for the end of the turn and are stepped as one, in their order with everything else", async () => {
  const heard: string[] = [];
  const core: Core<readonly ToyEffect[], never, never, string> = {
    name: "joined",
    step: (event) => {
      heard.push(event.kind === "request" ? `${event.id}${event.more === true ? "+" : ""}` : event.kind);
      return [];
    },
  };
  let snapshots = 0;
  const { disk } = new HandDisk();
  const snapshot = (): Snapshot & Disposable => {
    snapshots++;
    return disk.snapshot();
  };
  const counted = { write: disk.write, snapshot };
  const driver = openDriver({ core, disk: counted, connect: nowhere, joins: (body) => body.length === 0 });
  const ask = (body: readonly ToyEffect[]): void => void driver.request(CLIENT, body).catch(() => {});
  for (let at = 0; at < 3; at++) ask([]);
  expect(heard).toEqual([]);
  await soon();
  expect([heard, snapshots]).toEqual([["1+", "2+", "3"], 1]);
  ask([]);
  ask([say("does not join")]);
  ask([]);
  expect(heard.slice(3)).toEqual(["4", "5"]); // one that waits for nothing takes along what came before it
  await soon();
  expect(heard.slice(5)).toEqual(["6"]);
  await driver.close();
});
