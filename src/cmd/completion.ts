/**
 * `cairn completion bash|zsh`: the shell code to source. Ours, because the usual stubs evaluate the typed words, so that TAB after
 * `$(touch x)` runs it. These pass each word as it was typed, quoted, to `cairn complete`, fill the answer in literally, and use
 * neither `eval` nor `compgen -W`, which expands its list. test/completion.test.ts presses TAB on hostile words.
 */
import { EngineError } from "../engine/base/errors.ts";
import { command } from "./spec.ts";

const BASH = `# bash completion for cairn: source <(cairn completion bash)
_cairn() {
  local line directive=:4
  COMPREPLY=()
  while IFS= read -r line; do
    case $line in
      :*) directive=$line ;;
      *) COMPREPLY+=("\${line%%$'\\t'*}") ;;
    esac
  done < <(command -- "\${COMP_WORDS[0]}" complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  if [[ $directive == :0 ]]; then compopt -o default; fi
}
complete -F _cairn cairn
`;

const ZSH = `#compdef cairn
# zsh completion for cairn: source <(cairn completion zsh)
_cairn() {
  local line directive=:4
  local -a values shown
  while IFS= read -r line; do
    case $line in
      :*) directive=$line ;;
      *) values+=("\${line%%$'\\t'*}"); shown+=("\${line/$'\\t'/  }") ;;
    esac
  done < <(command -- "\${words[1]}" complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)
  compadd -d shown -a -- values
  if [[ $directive == :0 ]]; then _files; fi
}
compdef _cairn cairn
`;

const SCRIPTS = new Map([
  ["bash", BASH],
  ["zsh", ZSH],
]);

export const completion = command({
  name: "completion",
  summary: "Print the completion code for a shell",
  args: [{ name: "shell", means: "bash or zsh" }],
  options: [],
  errors: ["USAGE"],
  examples: ["source <(cairn completion bash)"],
  async run(ctx) {
    const script = SCRIPTS.get(ctx.args.shell);
    if (script === undefined) throw new EngineError("USAGE", `no completion for the shell ${JSON.stringify(ctx.args.shell)}; there is bash and zsh`);
    await ctx.answer({ shell: ctx.args.shell, script }, script);
  },
});
