/** Words in front of a command that make some of its system calls go wrong; `calls` are names with commas between. */

/** Without --seccomp-bpf: with it strace 6.1 injects no signal. */
export const straceInject = (calls: string, what: string): string[] => [
  ...["strace", "-f", "-qq", "-o", "/dev/null"],
  ...["-e", `trace=${calls}`, "-e", `inject=${calls}:${what}`],
];
