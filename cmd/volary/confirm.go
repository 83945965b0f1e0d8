package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

var forceFlag = &cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "do not ask"}

// errDeclined says that the answer was not yes.
var errDeclined = errors.New("nothing was changed")

// confirm asks whether something that is hard to undo is meant, unless --force is given. Where nobody can be asked it
// is refused.
func confirm(c *cli.Context, what string) error {
	if c.Bool("force") {
		return nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return usagef("%s needs --force where nobody can be asked: standard input is no terminal", c.Command.Name)
	}
	fmt.Fprintf(c.App.ErrWriter, "%s [y/N] ", what)
	answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return errDeclined
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errDeclined
}
