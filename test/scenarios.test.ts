/**
 * Every story of `fixtures/scenarios/<area>/`: run in this process and through the REPL's pipe, both must say what is
 * written. REWRITE=1 writes the answers of now into the files. `cli/` holds transcripts of the binary: another grammar.
 */
import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { areas } from "../src/engine/sim/areas.ts";
import { parseStory } from "../src/engine/sim/grammar.ts";
import { checkScript, titleOf } from "../src/engine/sim/script.ts";
import { answerPipe } from "../src/repl/pipe.ts";
import { simulatedSession } from "../src/repl/session.ts";

const root = join(import.meta.dir, "..");
const stories = [...new Bun.Glob("fixtures/scenarios/*/*.txt").scanSync(root)].filter((path) => basename(dirname(path)) !== "cli").sort();
const isRewriting = process.env["REWRITE"] === "1";

async function throughPipe(text: string): Promise<string> {
  const { session } = simulatedSession(areas, null);
  let printed = "";
  for await (const stanza of answerPipe(new Blob([text]).stream(), session)) printed += stanza.text;
  return printed;
}

for (const path of stories) {
  const text = readFileSync(join(root, path), "utf8");
  test(`${path}: ${titleOf(text) ?? "a story without a title"}`, async () => {
    const { transcript, differences } = checkScript(path, text, areas);
    if (isRewriting && transcript !== text) writeFileSync(join(root, path), transcript);
    else expect(differences.join("\n")).toBe("");
    expect(await throughPipe(text)).toBe(transcript);
  });
}

/** Stories of one area in two folders: of deciding, and of the store's synchronisation. */
const AREA_OF: Readonly<Record<string, string>> = { paxos: "sync" };

test("every story has a title and begins with the world of its folder's area", () => {
  const wrong = stories.filter((path) => {
    const text = readFileSync(join(root, path), "utf8");
    const [first] = parseStory(text)[0]?.lines.flatMap((line) => (line.kind === "verbs" ? line.calls : [])) ?? [];
    return titleOf(text) === null || first?.[0]?.value !== "world" || first[1]?.value !== (AREA_OF[basename(dirname(path))] ?? basename(dirname(path)));
  });
  expect(wrong).toEqual([]);
});
