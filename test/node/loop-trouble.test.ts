/** What people are told of a merge loop's steps: once when a failure lasts, once when it is over, never about a blip. */
import { expect, test } from "bun:test";
import type { StepResult } from "../../src/engine/merge/config.ts";
import { LoopTrouble } from "../../src/engine/node/loop-trouble.ts";

const fine: StepResult = { step: "dist", changed: false, counts: {}, notes: [] } as unknown as StepResult;
const failed = (detail: string): StepResult => ({ ...fine, error: { code: "NOT_READY", detail } });

test("a failure that lasts is said once, another one again, and its end", () => {
  const trouble = new LoopTrouble();
  const said = [
    trouble.ended("dist", failed("b is away"), 1_000),
    trouble.ended("dist", failed("b is away"), 3_999),
    trouble.ended("dist", failed("b is away"), 4_000),
    trouble.ended("dist", failed("b is away"), 9_000),
    trouble.ended("backup.b", fine, 9_000),
    trouble.ended("dist", failed("the disk is full"), 10_000),
    trouble.ended("dist", fine, 21_000),
    trouble.ended("dist", fine, 22_000),
  ];
  expect(said.filter((line) => line !== null)).toEqual([
    "merge dist: error[NOT_READY]: b is away",
    "merge dist: error[NOT_READY]: the disk is full",
    "merge dist: goes on after 20 s",
  ]);
});

test("a failure that passes within seconds is not said, nor is its end", () => {
  const trouble = new LoopTrouble();
  expect([trouble.ended("dist", failed("b is away"), 0), trouble.ended("dist", fine, 2_999)]).toEqual([null, null]);
});

test("a run that lasts is said, and that it came to an end", () => {
  const trouble = new LoopTrouble();
  expect(trouble.lasts("queue", 31_000)).toBe("merge queue: its run has lasted for 30 s");
  expect(trouble.ended("queue", fine, 45_000)).toBe("merge queue: goes on after 44 s");
});
