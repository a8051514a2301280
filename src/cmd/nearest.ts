/**
 * The nearest of a few known words, for "did you mean". Damerau-Levenshtein distance (optimal string alignment), so a
 * swapped pair of letters counts once. Never guesses wildly: more than a third of the word wrong is no match.
 */
const WORD_LENGTH_MAX = 64; // names are shorter; a pasted page is not worth comparing

export function nearest(word: string, known: Iterable<string>): string | null {
  if (word.length > WORD_LENGTH_MAX) return null;
  let best: string | null = null;
  let bestDistance = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const each of known) {
    const found = distance(word, each);
    if (found < bestDistance) [best, bestDistance] = [each, found];
  }
  return best;
}

function distance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let best = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) best = Math.min(best, (beforeLast[j - 2] ?? 0) + 1);
      row.push(best);
    }
    [beforeLast, last] = [last, row];
  }
  return last[b.length] ?? 0;
}
