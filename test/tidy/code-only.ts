/**
 * Source text with comments, and optionally the insides of strings and regular expressions, blanked out: same length,
 * same lines, so a match says where it is. A small scanner, not a parser: it knows strings, templates with their
 * `${…}`, comments, and tells a regular expression from a division by what stands before it.
 */
const BEFORE_REGEX = /(?:^|[(,=:[!&|?{};+\-*%<>~^]|\b(?:return|typeof|case|in|of|do|else|void|yield|await|throw))\s*$/;

export function codeOnly(text: string, options: { keepStrings: boolean } = { keepStrings: false }): string {
  const out = [...text].length === text.length ? text.split("") : Array.from({ length: text.length }, (_, i) => text[i] ?? "");
  const blank = (from: number, to: number): void => {
    for (let i = from; i < to; i++) if (out[i] !== "\n") out[i] = " ";
  };
  const literal = (from: number, to: number): void => {
    if (!options.keepStrings) blank(from, to);
  };
  /** For each open template, how deep in braces its `${` was. */
  const templates: number[] = [];
  let depth = 0;
  let at = 0;
  while (at < text.length) {
    const char = text[at] ?? "";
    const pair = text.slice(at, at + 2);
    if (pair === "//" || pair === "/*") {
      const end = endOfComment(text, at);
      blank(at, end);
      at = end;
    } else if (char === '"' || char === "'") {
      const end = endOfQuoted(text, at, char);
      literal(at + 1, end - 1);
      at = end;
    } else if (char === "`" || (char === "}" && templates.at(-1) === depth)) {
      if (char === "}") templates.pop();
      const end = endOfTemplatePart(text, at + 1);
      literal(at + 1, end);
      if (text.startsWith("${", end)) templates.push(depth);
      at = end + (text.startsWith("${", end) ? 2 : 1);
    } else if (char === "/" && BEFORE_REGEX.test(text.slice(Math.max(0, at - 40), at))) {
      const end = endOfRegex(text, at);
      literal(at + 1, end - 1);
      at = end;
    } else {
      if (char === "{") depth++;
      if (char === "}") depth--;
      at++;
    }
  }
  return out.join("");
}

function endOfComment(text: string, at: number): number {
  const line = text.startsWith("//", at);
  const end = text.indexOf(line ? "\n" : "*/", at + 2);
  if (end === -1) return text.length;
  return line ? end : end + 2;
}

function endOfQuoted(text: string, at: number, quote: string): number {
  let end = at + 1;
  while (end < text.length && text[end] !== quote && text[end] !== "\n") end += text[end] === "\\" ? 2 : 1;
  return end + 1;
}

/** Where the closing backtick or the next `${` is. */
function endOfTemplatePart(text: string, at: number): number {
  let end = at;
  while (end < text.length && text[end] !== "`" && !text.startsWith("${", end)) end += text[end] === "\\" ? 2 : 1;
  return end;
}

function endOfRegex(text: string, at: number): number {
  let end = at + 1;
  let inClass = false;
  while (end < text.length && text[end] !== "\n" && (inClass || text[end] !== "/")) {
    if (text[end] === "[") inClass = true;
    if (text[end] === "]") inClass = false;
    end += text[end] === "\\" ? 2 : 1;
  }
  return end + 1;
}
