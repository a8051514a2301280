/** What `cairn kv` refuses to write: nothing at all from a stdin that is closed, and words that are no text. */
import { expect, test } from "bun:test";
import { FROM_SOURCE } from "../node/up-bench.ts";

/** No node is asked: nothing listens there. */
const NOWHERE = "--cluster http://127.0.0.1:1 --timeout 200ms";

function said(line: string): [number, string] {
  const { exitCode, stderr } = Bun.spawnSync(["/bin/sh", "-c", line.replaceAll("cairn", '"$0" "$1"'), ...FROM_SOURCE]);
  return [exitCode, stderr.toString().split("\n")[0] ?? ""];
}

test("a value from a closed or empty stdin is refused, an empty one is said", () => {
  for (const from of ["< /dev/null", "<&-"])
    expect(said(`cairn kv put k ${NOWHERE} ${from}`)).toEqual([2, "error[USAGE]: stdin is closed or empty; an empty value is written as ''"]);
  expect(said(`cairn kv put k '' ${NOWHERE}`)).toEqual([6, expect.stringContaining("error[UNAVAILABLE]")]);
});

test("bytes that are no UTF-8 do not become another key or value", () => {
  const odd = `"$(printf '\\377')"`;
  for (const words of [`put ${odd} v`, `get ${odd}`, `delete ${odd}`, `put k ${odd}`, `cas k v --expect ${odd}`])
    expect([words, ...said(`cairn kv ${words} ${NOWHERE}`)]).toEqual([words, 2, expect.stringContaining("is not UTF-8")]);
});
