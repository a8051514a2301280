/**
 * Values that command lines get wrong: numbers in disguise, things that look like options, things a shell would run.
 */
export const hostileWords: readonly string[] = [
  "0012",
  "18446744073709551615",
  "0x10",
  "1e3",
  "-0",
  "--",
  "-",
  "--json",
  "-x",
  "=",
  "a=b",
  "",
  " ",
  "true",
  "null",
  "__proto__",
  "$(touch x)",
  "`touch x`",
  "a;touch x",
  "line\nbreak",
  "tab\there",
  "quote\"'\\",
  "ünïcödé 😀 \u202e",
  "[a-z]*",
];
