/**
 * `cairn kv`: small values under names, decided by a majority of the cluster (sync.md 3.8). A value is bytes: `get` prints
 * exactly them, `put` takes them from an argument or from stdin.
 */
import { equalBytes, fromUtf8 } from "../engine/base/bytes.ts";
import { EngineError } from "../engine/base/errors.ts";
import { resolveCluster } from "./cluster.ts";
import { askKv, type KvReply, keyPath } from "./kv-client.ts";
import { kvWatch } from "./kv-watch.ts";
import { type Context, command } from "./spec.ts";

const errors = ["PAXOS_NO_QUORUM", "PAXOS_OUTCOME_UNKNOWN", "NOT_READY", "UNAVAILABLE", "TIMEOUT", "NOT_FOUND"] as const;
const keyArg = { name: "key", means: "up to 1,000 bytes" } as const;
const localOption = { name: "local", form: "flag", means: "the state of the first node that answers, which may be old" } as const;
const ifVersionOption = { name: "if-version", form: "count", value: "V", means: "only where the key has this version; `kv get --json` tells it" } as const;

type Asked = Pick<Context, "cluster" | "timeoutMs">;
type Ask = Parameters<typeof askKv>[1];

async function ask({ cluster, timeoutMs }: Asked, what: Ask): Promise<KvReply> {
  return askKv(await resolveCluster(cluster), what, timeoutMs);
}

/** A command's key may not be empty: that is the address of a scan. */
function pathOf(key: string): string {
  if (key === "") throw new EngineError("USAGE", "the key is empty");
  return keyPath(whole("the key", key));
}

/** What is no UTF-8 comes as this character: two keys would become one, and a value another one, with nobody told. */
const NO_TEXT = "\ufffd";

function whole(what: string, text: string): string {
  if (!text.includes(NO_TEXT)) return text;
  throw new EngineError(
    "USAGE",
    `${what} ${JSON.stringify(text)} is not UTF-8: values of any bytes are read from stdin, keys of any bytes are written over HTTP`,
  );
}

const get = command({
  name: "kv get",
  summary: "Print the value of a key, as its bytes",
  args: [keyArg],
  options: [localOption],
  errors,
  examples: ["cairn kv get motd", "cairn kv get motd --json"],
  async run(ctx) {
    const { key } = ctx.args;
    const reply = await ask(ctx, { method: "GET", path: `${pathOf(key)}${ctx.options.local ? "?consistency=local" : ""}` });
    const readVersion = reply.header("x-cairn-read-version");
    if (reply.status === 404) throw new EngineError("NOT_FOUND", `no key ${JSON.stringify(key)} at version ${readVersion}`);
    const version = reply.header("x-cairn-version");
    if (ctx.json) return ctx.answer({ key, version, readVersion, ...valueField(reply.body) }, "");
    await ctx.answerBytes(reply.body);
  },
});

function valueField(value: Uint8Array): { readonly value: string } | { readonly valueBase64: string } {
  try {
    return { value: fromUtf8(value) };
  } catch {
    return { valueBase64: value.toBase64() }; // bytes that are no text
  }
}

const put = command({
  name: "kv put",
  summary: "Write a value, from the argument or from stdin; print the version that wrote it",
  args: [keyArg, { name: "value", optional: true, means: "the value; without it stdin is read to its end" }],
  options: [ifVersionOption, { name: "if-absent", form: "flag", means: "only where there is no such key" }],
  errors: [...errors, "KV_CONDITION", "HTTP_BODY_TOO_LARGE"],
  examples: ["cairn kv put motd 'all is well'", "cairn kv put motd --if-version 12 < motd.txt"],
  async run(ctx) {
    const { key, value } = ctx.args;
    const { "if-version": version, "if-absent": isAbsent } = ctx.options;
    if (version !== undefined && isAbsent) throw new EngineError("USAGE", "--if-version and --if-absent exclude each other");
    const headers = isAbsent ? { "if-none-match": "*" } : matching(version);
    const reply = await ask(ctx, { method: "PUT", path: pathOf(key), headers, body: await inputOf(value) });
    const written = reply.header("x-cairn-version");
    await ctx.answer({ key, version: written }, String(written));
  },
});

const cas = command({
  name: "kv cas",
  summary: "Write a value where the key has the one that is expected; print the version that wrote it",
  args: [keyArg, { name: "value", optional: true, means: "the new value; without it stdin is read to its end" }],
  options: [
    { name: "expect", form: "string", value: "VALUE", means: "the value that the key must have" },
    { name: "expect-version", form: "count", value: "V", means: "the version that it must have" },
    { name: "expect-absent", form: "flag", means: "there must be no such key" },
  ],
  errors: [...errors, "KV_CONDITION", "HTTP_BODY_TOO_LARGE"],
  examples: ["cairn kv cas lock 'held by b' --expect free", "cairn kv cas lock free --expect-absent"],
  async run(ctx) {
    const { key, value } = ctx.args;
    const { expect, "expect-version": version, "expect-absent": isAbsent } = ctx.options;
    if ([expect !== undefined, version !== undefined, isAbsent].filter(Boolean).length !== 1)
      throw new EngineError("USAGE", "say what is expected by one of --expect, --expect-version and --expect-absent");
    const path = pathOf(key);
    const body = await inputOf(value);
    const put = (headers: Record<string, string>): Promise<KvReply> => ask(ctx, { method: "PUT", path, headers, body });
    const reply = expect === undefined ? await put(isAbsent ? { "if-none-match": "*" } : matching(version)) : await swap(ctx, { key, path, expect, put });
    const written = reply.header("x-cairn-version");
    await ctx.answer({ key, version: written }, String(written));
  },
});

type Swap = { readonly key: string; readonly path: string; readonly expect: string; put(headers: Record<string, string>): Promise<KvReply> };

/** The value is compared here, its version at the leader: somebody who wrote in between may have written the same value again. */
async function swap(ctx: Asked, { key, path, expect, put }: Swap): Promise<KvReply> {
  const wanted = new TextEncoder().encode(whole("the expected value", expect));
  for (const untilMs = performance.now() + ctx.timeoutMs; ; ) {
    const now = await ask(ctx, { method: "GET", path });
    if (now.status === 404) throw new EngineError("KV_CONDITION", `there is no key ${JSON.stringify(key)}`);
    const version = now.header("x-cairn-version") ?? 0;
    if (!equalBytes(now.body, wanted)) throw new EngineError("KV_CONDITION", `key ${JSON.stringify(key)} has another value, of version ${version}`);
    try {
      return await put(matching(version));
    } catch (error) {
      if (!(error instanceof EngineError) || error.code !== "KV_CONDITION" || performance.now() > untilMs) throw error;
    }
  }
}

async function inputOf(given: string | undefined): Promise<Uint8Array<ArrayBuffer>> {
  if (given !== undefined) return new TextEncoder().encode(whole("the value", given));
  const value = new Uint8Array(await Bun.stdin.arrayBuffer());
  // a script that lost its input would empty the key
  if (value.length === 0) throw new EngineError("USAGE", "stdin is closed or empty; an empty value is written as ''");
  return value;
}

const remove = command({
  name: "kv delete",
  summary: "Remove a key; one that is not there is no error",
  args: [keyArg],
  options: [ifVersionOption],
  errors: [...errors, "KV_CONDITION"],
  examples: ["cairn kv delete motd"],
  async run(ctx) {
    const { key } = ctx.args;
    const reply = await ask(ctx, { method: "DELETE", path: pathOf(key), headers: matching(ctx.options["if-version"]) });
    const version = reply.header("x-cairn-version");
    await ctx.answer({ key, version }, String(version));
  },
});

function matching(version: number | undefined): Record<string, string> {
  if (version === 0) throw new EngineError("BAD_OPTION", "--if-version 0: no version is 0; --if-absent asks for a key that is not there");
  return version === undefined ? {} : { "if-match": `"${version}"` };
}

type Row = { readonly key?: string; readonly keyBase64?: string; readonly version: number; readonly value?: string; readonly valueBase64?: string };

const scan = command({
  name: "kv scan",
  summary: "List keys with their versions and values, in key order",
  args: [{ name: "prefix", optional: true, means: "only keys that begin with this" }],
  options: [
    { name: "after", form: "string", value: "KEY", means: "only keys behind this one: the last of an earlier list" },
    { name: "limit", form: "count", value: "N", default: "100", means: "so many at most" },
    localOption,
  ],
  errors,
  examples: ["cairn kv scan", "cairn kv scan users/ --limit 10 --json"],
  async run(ctx) {
    const { after, limit, local } = ctx.options;
    if (limit < 1) throw new EngineError("BAD_OPTION", "--limit 0: want at least 1");
    const rows: Row[] = [];
    let from = after;
    for (let more = true; more && rows.length < limit; ) {
      const query = new URLSearchParams({ prefix: ctx.args.prefix ?? "", limit: String(Math.min(limit - rows.length, PAGE_COUNT)) });
      if (from !== undefined) query.set("after", from);
      if (local) query.set("consistency", "local");
      const page = parseRows((await ask(ctx, { method: "GET", path: `?${query}` })).body);
      rows.push(...page);
      from = page.at(-1)?.key;
      more = page.length > 0 && from !== undefined; // a key that is no text cannot be asked behind
    }
    const text = rows.map(
      ({ key, keyBase64, version, value, valueBase64 }) => `${key ?? `base64:${keyBase64}`}\t${version}\t${value ?? `base64:${valueBase64}`}`,
    );
    await ctx.answer(rows, text.join("\n"));
  },
});

const PAGE_COUNT = 1_024;

const parseRows = (body: Uint8Array): Row[] =>
  fromUtf8(body)
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Row);

export const kvCommands = [get, put, cas, remove, scan, kvWatch];
