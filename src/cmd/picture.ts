/**
 * A merge as a picture: a bar for the primary's currentsize and one for each secondary's position, a line through all of
 * them where the signed size is, and the quorum formula below. Pure text of a given width; colours are a function of the caller.
 */
import type { MergeView, NodeView, PrimaryView } from "./merge-view.ts";
import { nextSize, readingOf, waitFor, waitText } from "./quorum.ts";

export type Tone = "strong" | "good" | "late" | "bad" | "faint";
export type Paint = (tone: Tone, text: string) => string;
export const plain: Paint = (_tone, text) => text;

const SGR: Readonly<Record<Tone, string>> = { strong: "1", good: "32", late: "33", bad: "31", faint: "2" };
export const colours: Paint = (tone, text) => (text === "" ? "" : `\u001b[${SGR[tone]}m${text}\u001b[0m`);

const FULL = "█";
const EMPTY = "·";
const LINE = "│";
const BAR_COLUMNS_MIN = 8;
const BAR_COLUMNS_MAX = 60;

/**
 * `columns` cells for `[0, max]`: filled up to `value`, and only then to the last cell when nothing is missing; the mark
 * stands in the cell that ends at it, and an entry less never looks like all of them.
 */
export function bar({ value, max, columns, mark }: { value: number; max: number; columns: number; mark: number | null }): string {
  const cells = Array.from({ length: columns }, (_, at): string => (at < cellsOf(value, max, columns) ? FULL : EMPTY));
  if (mark !== null && mark > 0) cells[Math.max(0, cellsOf(mark, max, columns) - 1)] = LINE;
  return cells.join("");
}

/** Rounded down, but something is never nothing. */
function cellsOf(value: number, max: number, columns: number): number {
  if (value <= 0 || max <= 0) return 0;
  if (value >= max) return columns;
  return Math.min(columns - 1, Math.max(1, Math.floor((value * columns) / max)));
}

type Row = { readonly label: string; readonly size: number; readonly tone: Tone; readonly tail: string };

/** Lines without LF, none wider than `columns` as long as names and numbers leave room. */
export function drawMerge(view: MergeView, { columns, paint = plain }: { columns: number; paint?: Paint }): string[] {
  const { merge } = view;
  if (merge === null) return [`${view.primary ?? "the primary"} does not answer: positions are not known`, ...view.nodes.map(publishedText)];
  const rows = [primaryRow(view, merge), ...merge.standings.map((standing) => secondaryRow(view, merge, standing.secondary))];
  const labelColumns = Math.max(...rows.map(({ label }) => label.length));
  const sizeColumns = Math.max(...rows.map(({ size }) => String(size).length));
  const tailColumns = Math.max(...rows.map(({ tail }) => tail.length));
  const barColumns = Math.min(BAR_COLUMNS_MAX, Math.max(BAR_COLUMNS_MIN, columns - 1 - (labelColumns + 1 + 1 + sizeColumns + 2 + tailColumns)));
  const lines = rows.map(({ label, size, tone, tail }) => {
    const cells = bar({ value: size, max: merge.currentSize, columns: barColumns, mark: merge.signedSize });
    return `${paint("strong", label.padEnd(labelColumns))} ${paint(tone, cells)} ${String(size).padStart(sizeColumns)}  ${paint("faint", tail)}`.trimEnd();
  });
  return [...lines, ...footer(merge, paint)];
}

function primaryRow(view: MergeView, merge: PrimaryView): Row {
  const id = view.primary ?? "primary";
  return { label: `${id} current`, size: merge.currentSize, tone: "good", tail: publishedTail(view, id) };
}

function secondaryRow(view: MergeView, merge: PrimaryView, id: string): Row {
  const standing = merge.standings.find(({ secondary }) => secondary === id);
  const size = standing?.size ?? 0;
  const toGo = merge.currentSize - size;
  const isDown = view.nodes.some((node) => node.id === id && node.error !== null);
  const parts = [isDown ? null : publishedTail(view, id), isDown ? "does not answer" : null, toGo > 0 ? `${toGo} to go` : null];
  return { label: `${id} position`, size, tone: isDown ? "bad" : toGo > 0 ? "late" : "good", tail: parts.filter(Boolean).join(", ") };
}

function publishedTail(view: MergeView, id: string): string {
  const published = view.nodes.find((node) => node.id === id)?.publishedSize ?? null;
  return published === null ? "" : `serves ${published}`;
}

const publishedText = ({ id, error, publishedSize }: NodeView): string => `${id}: ${error === null ? `serves ${publishedSize ?? "no head"}` : error.code}`;

function footer(merge: PrimaryView, paint: Paint): string[] {
  const sizes = { currentSize: merge.currentSize, positions: merge.standings };
  const reading = readingOf(sizes, merge.k);
  const signable = reading.size ?? 0;
  const verified = reading.counted.length === 0 ? "" : `   verified by ${reading.counted.join(", ")}`;
  const quorum =
    reading.size === null
      ? paint("bad", `backupquorum ${merge.k} of ${merge.standings.length}: impossible`)
      : `quorum  ${reading.formula} = ${reading.size}${verified}`;
  const next = nextSize(sizes, signable);
  const wait = next === null ? null : waitFor(sizes, merge.k, next);
  const ready = signable > (merge.signedSize ?? 0) ? `   ${signable} can be signed` : "";
  return [
    quorum,
    `signed  ${merge.signedSize ?? "nothing yet"}${ready}${wait === null ? "" : `   ${paint("late", waitText(wait))}`}`,
    ...(merge.latch === null ? [] : [paint("bad", `latched ${merge.latch.code}: ${merge.latch.detail}`)]),
    ...merge.notes.map((note) => paint("late", `note    ${note}`)),
  ];
}
