/**
 * Columns of text for people: as wide as the widest cell, two blanks between, nothing after the last. Width is what a
 * terminal shows, not the number of code units.
 */
export function formatTable(rows: readonly (readonly unknown[])[], options: { indent?: string } = {}): string {
  const cells = rows.map((row) => row.map((cell) => String(cell)));
  const widths: number[] = [];
  for (const row of cells) for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, Bun.stringWidth(cell));
  const pad = (cell: string, column: number): string => cell + " ".repeat((widths[column] ?? 0) - Bun.stringWidth(cell));
  return cells.map((row) => `${(options.indent ?? "") + row.map(pad).join("  ")}`.trimEnd()).join("\n");
}
