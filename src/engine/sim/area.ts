/**
 * What an area (merge, sync, volume, table) brings to stories and seed runs: how to make its world, its verbs, its
 * conditions, its status, and one run of a seed. `defineArea` hides the scene's type, so one list holds every area.
 */
import { EngineError } from "../base/errors.ts";
import type { Call } from "./grammar.ts";
import type { Tape } from "./tape.ts";
import { Words } from "./words.ts";
import type { Violation, WorldFace } from "./world-face.ts";

/** What verbs act on; areas add what they know beside the world. */
export type Scene = { readonly world: WorldFace };

/** A verb as help and completion see it. */
export type VerbInfo = {
  /** One word, or two: `merge queue`. */
  readonly name: string;
  /** Every form without the name: `[50ms] [until=COND]`. Keys that may be given are read from here. */
  readonly forms: readonly string[];
  readonly example: string;
  readonly summary: string;
};

export type Verb<S extends Scene> = VerbInfo & {
  /** Lines of the answer; null where the words are not one of its forms, and another verb of that name is to be tried. */
  run(scene: S, words: Words): readonly string[] | null;
};

/** `until=NAME` or `until=NAME(argument)`. */
export type Condition<S extends Scene> = { readonly name: string; readonly summary: string; holds(scene: S, argument: string): boolean };

export type SeedReport = {
  readonly seed: number;
  readonly events: number;
  readonly traceHash: string;
  readonly violation: Violation | null;
  readonly marks: ReadonlyMap<string, number>;
};

export type SeedOptions = {
  /** Before the faults stop. */
  readonly eventsMax?: number | undefined;
  /** Shown each world that the seed makes, before anything happens there. */
  readonly onWorld?: ((world: WorldFace) => void) | undefined;
  /** Records the deeds, or plays some of them. */
  readonly tape?: Tape | undefined;
};

export type AreaSpec<S extends Scene> = {
  readonly name: string;
  readonly summary: string;
  /** The first verb of a file, complete: `world merge storage=a primary=p`. */
  readonly example: string;
  /** Its keys: `storage=a,b primary=p …`. */
  readonly forms: readonly string[];
  makeWorld(words: Words): S;
  readonly verbs: readonly Verb<S>[];
  readonly conditions: readonly Condition<S>[];
  /** What `world` and `status` answer. */
  status(scene: S): readonly string[];
  /** Phases of its cores and what may follow each, for `help states`. */
  readonly transitions?: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>>;
  /** Whose planted mistakes its seeds hunt: the words before the dot. Its own name where nothing is said. */
  readonly mutants?: readonly string[];
  runSeed?(seed: number, how?: SeedOptions): SeedReport;
};

/** A world that was made, with its area's verbs bound to it. */
export type OpenScene = Scene & {
  status(): readonly string[];
  /** Runs the area's verb of this name; null where there is none, or not of this form. */
  run(name: string, call: Call): readonly string[] | null;
  /** A test for a condition, `NAME` or `NAME(argument)`; refuses a name it does not have. */
  condition(text: string): () => boolean;
};

export type Area = Pick<AreaSpec<Scene>, "name" | "summary" | "example" | "forms" | "transitions" | "mutants" | "runSeed"> & {
  readonly verbs: readonly VerbInfo[];
  readonly conditions: readonly Pick<Condition<Scene>, "name" | "summary">[];
  open(call: Call): OpenScene;
};

export function defineArea<S extends Scene>(spec: AreaSpec<S>): Area {
  return {
    ...spec,
    open(call) {
      const words = new Words(`world ${spec.name}`, call);
      const scene = spec.makeWorld(words);
      words.done();
      return {
        world: scene.world,
        status: () => spec.status(scene),
        run: (name, words) => runVerb(spec.verbs, scene, name, words),
        condition: (text) => conditionOf(spec.conditions, scene, text),
      };
    },
  };
}

/** Runs the first verb of this name that takes these words; null where none does. */
export function runVerb<S extends Scene>(verbs: readonly Verb<S>[], scene: S, name: string, call: Call): readonly string[] | null {
  for (const verb of verbs) {
    if (verb.name !== name || !knowsKeys(verb, call)) continue;
    const words = new Words(name, call);
    const answer = verb.run(scene, words);
    if (answer === null) continue;
    words.done();
    return answer;
  }
  return null;
}

/** Keys that a verb's forms name. */
export const keysOf = ({ forms }: Pick<VerbInfo, "forms">): string[] => [
  ...new Set(forms.flatMap((form) => [...form.matchAll(/([A-Za-z][\w.-]*)=/g)].map(([, key = ""]) => key))),
];

const knowsKeys = (verb: VerbInfo, call: Call): boolean => call.every(({ key }) => key === null || keysOf(verb).includes(key));

function conditionOf<S extends Scene>(conditions: readonly Condition<S>[], scene: S, text: string): () => boolean {
  const [, name = text, argument = ""] = /^([\w.-]+)(?:\((.*)\))?$/.exec(text) ?? [];
  const found = conditions.find((condition) => condition.name === name);
  if (found === undefined) throw new EngineError("PARSE", `condition ${text}: there are ${conditions.map((each) => each.name).join(", ") || "none"}`);
  return () => found.holds(scene, argument);
}

export function areaNamed(name: string, known: readonly Area[]): Area {
  const found = known.find((area) => area.name === name);
  if (found === undefined) throw new EngineError("NOT_FOUND", `no area ${name}: there are ${known.map((area) => area.name).join(", ") || "none"}`);
  return found;
}

/** What the world says while something is done to it. */
export function traced(world: WorldFace, act: () => void): string[] {
  const before = world.trace.position;
  act();
  return world.trace.since(before);
}
