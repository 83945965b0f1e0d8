package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// completeFlag, as the last word, asks what the word before it can become. The shells' scripts use it. The cli
// package's own answer fails on a flag that is not whole yet.
const completeFlag = "--generate-completion"

// complete prints the commands or flags that may stand at the end of args, one a line.
func complete(w io.Writer, app *cli.App, args []string) {
	commands, flags := app.Commands, app.Flags
	for _, arg := range args {
		for _, c := range commands {
			if c.HasName(arg) {
				commands, flags = c.Subcommands, c.Flags
				break
			}
		}
	}
	if len(args) > 0 && strings.HasPrefix(args[len(args)-1], "-") {
		for _, f := range flags {
			for _, name := range f.Names() {
				if len(name) > 1 {
					fmt.Fprintln(w, "--"+name)
				}
			}
		}
		return
	}
	for _, c := range commands {
		fmt.Fprintln(w, c.Name)
	}
}

func completionCommand() *cli.Command {
	return command(cli.Command{
		Name:        "completion",
		Usage:       "print a completion script for a shell",
		ArgsUsage:   "bash|zsh",
		Description: "For bash: source <(volary completion bash). For zsh: source <(volary completion zsh).",
		Action: func(c *cli.Context) error {
			script, ok := completions[c.Args().First()]
			if !ok {
				return usagef("no completion for %q\nthere is one for bash and one for zsh", c.Args().First())
			}
			_, err := io.WriteString(c.App.Writer, strings.TrimLeft(script, "\n"))
			return err
		},
	}, 1, 1)
}

var completions = map[string]string{
	"bash": `
_volary() {
	local words
	words=$("${COMP_WORDS[@]:0:COMP_CWORD+1}" ` + completeFlag + ` 2>/dev/null)
	COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o bashdefault -o default -F _volary volary
`,
	"zsh": `
#compdef volary
_volary() {
	local -a found
	found=(${(f)"$(${words[1,CURRENT]} ` + completeFlag + ` 2>/dev/null)"})
	compadd -a found
	_files
}
compdef _volary volary
`,
}
