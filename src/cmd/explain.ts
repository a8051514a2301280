/**
 * `cairn explain [CODE]`: the error table, for people and programs. Needs no cluster and no store.
 */
import { EngineError, type ErrorCode, errorTable, isErrorCode } from "../engine/base/errors.ts";
import { nearest } from "./nearest.ts";
import { command } from "./spec.ts";
import { formatTable } from "./table.ts";

const entries = Object.keys(errorTable).filter(isErrorCode);

const rowOf = (code: ErrorCode): object => ({ code, ...errorTable[code] });

function textOf(code: ErrorCode): string {
  const { exit, http, s3, retryable, means, hint } = errorTable[code];
  const head = [
    `exit ${exit}`,
    `HTTP ${http}`,
    ...(s3 === null ? [] : [`S3 ${s3}`]),
    retryable ? "may succeed later unchanged" : "stays so until something changes",
  ];
  return `${code}: ${means}\n  ${head.join(", ")}\n  hint: ${hint}`;
}

export const explain = command({
  name: "explain",
  summary: "Say what an error code means and what to do about it",
  args: [{ name: "code", optional: true, means: "an error code such as STORE_FULL; without it, all of them" }],
  options: [],
  errors: ["UNKNOWN_CODE"],
  examples: ["cairn explain STORE_FULL", "cairn explain --json"],
  async run(ctx) {
    const { code: typed } = ctx.args;
    if (typed === undefined) {
      const rows = entries.map((code) => [code, errorTable[code].exit, errorTable[code].means]);
      return ctx.answer(entries.map(rowOf), formatTable([["CODE", "EXIT", "MEANS"], ...rows]));
    }
    const code = typed.toUpperCase();
    if (isErrorCode(code)) return ctx.answer(rowOf(code), textOf(code));
    const guess = nearest(code, entries);
    throw new EngineError("UNKNOWN_CODE", `${JSON.stringify(typed)} is no error code${guess === null ? "" : `; did you mean ${guess}?`}`);
  },
});
