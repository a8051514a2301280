/**
 * An answer of an admin port that goes on: one JSON object a line, until the node or we have enough. A line is bounded, and
 * so is the silence between two: the node says something every few seconds. An end is an end only where a last line says
 * so; whoever reads decides what a connection that broke off means. Not a command itself.
 */
import { concatBytes } from "../engine/base/bytes.ts";
import { EngineError } from "../engine/base/errors.ts";
import { Silence } from "../engine/node/silence.ts";
import { type ClientNode, tokenOf } from "./cluster.ts";
import { boundedBody, type Fields, parseObject, toldError } from "./http-answer.ts";

/** An error and its message. */
const ERROR_BYTES_MAX = 64 * 1_024;
/** A value of 1 MiB as escaped text, and its key. */
const LINE_BYTES_MAX = 8 * 1_024 * 1_024;
/** Three of the node's signs of life. */
const SILENCE_MS = 15_000;
const LF = 0x0a;

export type LinesOf = { readonly path: string /** Until the answer begins. */; readonly timeoutMs: number; readonly signal: AbortSignal };

/** Throws UNAVAILABLE, TIMEOUT where nothing more came, or the node's own error, of its status or of its last line. */
export async function* streamLines(node: ClientNode, { path, timeoutMs, signal }: LinesOf): AsyncGenerator<Fields> {
  const late = new AbortController();
  const silence = new Silence(timeoutMs, () => late.abort());
  const aborted = AbortSignal.any([signal, late.signal]);
  try {
    const answer = await fetch(`${node.admin}${path}`, { headers: tokenOf(node), signal: aborted, redirect: "error" });
    const at = `${node.id} at ${node.admin}`;
    if (!answer.ok) throw toldError(parseObject(await boundedBody(answer, at, ERROR_BYTES_MAX))) ?? new EngineError("FAILED", `${at}: HTTP ${answer.status}`);
    for await (const line of linesOf(answer.body ?? new ReadableStream(), () => silence.heard(SILENCE_MS))) {
      const value = parseObject(line);
      if (value === null) throw new EngineError("FRAME_CORRUPT", `${at}: a line that is no JSON object`);
      const told = toldError(value);
      if (told !== null) throw told;
      yield value;
    }
  } catch (cause) {
    if (signal.aborted) return;
    if (cause instanceof EngineError) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    if (late.signal.aborted) throw new EngineError("TIMEOUT", `${node.id} at ${node.admin} said nothing for ${silence.waitedMs} ms`, { cause });
    throw new EngineError("UNAVAILABLE", `${node.id} at ${node.admin}: ${reason}`, { cause });
  } finally {
    silence.end();
  }
}

async function* linesOf(body: ReadableStream<Uint8Array>, heard: () => void): AsyncGenerator<Uint8Array> {
  let parts: Uint8Array[] = [];
  let waiting = 0;
  for await (const chunk of body) {
    heard();
    let from = 0;
    for (let end = chunk.indexOf(LF); end >= 0; end = chunk.indexOf(LF, from)) {
      yield concatBytes(...parts, chunk.subarray(from, end));
      parts = [];
      waiting = 0;
      from = end + 1;
    }
    waiting += chunk.length - from;
    if (waiting > LINE_BYTES_MAX) throw new RangeError(`a line of more than ${LINE_BYTES_MAX} bytes`);
    if (from < chunk.length) parts.push(chunk.slice(from));
  }
}
