/**
 * Every area that stories and seed runs know, in the order help shows them. An area is one import and one line here.
 */
import type { Area } from "./area.ts";
import { logArea, mergeArea } from "./merge-area.ts";
import { syncArea } from "./sync-area.ts";

export const areas: readonly Area[] = [mergeArea, logArea, syncArea];
