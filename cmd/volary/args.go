package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// permute moves the flags of a command before its arguments, so that `volary restore REF DIR --delete` means
// what it says; the cli package stops looking for flags at the first argument. What follows "--" stays.
func permute(app *cli.App, args []string) []string {
	if len(args) == 0 {
		return args
	}
	out := []string{args[0]}
	rest := args[1:]
	flags, commands := app.Flags, app.Commands
	for {
		n := leadingFlags(flags, rest)
		out, rest = append(out, rest[:n]...), rest[n:]
		i := -1
		if len(rest) > 0 {
			i = slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(rest[0]) })
		}
		if i < 0 {
			break
		}
		out, rest = append(out, rest[0]), rest[1:]
		flags, commands = commands[i].Flags, commands[i].Subcommands
	}
	if len(out) == 1 {
		return args
	}
	before, after := split(flags, rest)
	return append(append(out, before...), after...)
}

// split separates flags (with their values) from arguments.
func split(flags []cli.Flag, args []string) (fs, positional []string) {
	for len(args) > 0 {
		if args[0] == "--" {
			return append(fs, "--"), append(positional, args[1:]...)
		}
		if n := leadingFlags(flags, args); n > 0 {
			fs, args = append(fs, args[:n]...), args[n:]
			continue
		}
		positional, args = append(positional, args[0]), args[1:]
	}
	return fs, positional
}

// leadingFlags counts the words at the start of args that are flags or their values.
func leadingFlags(flags []cli.Flag, args []string) int {
	n := 0
	for n < len(args) && len(args[n]) > 1 && args[n][0] == '-' && args[n] != "--" {
		name, _, hasValue := strings.Cut(strings.TrimLeft(args[n], "-"), "=")
		n++
		if !hasValue && takesValue(flags, name) && n < len(args) {
			n++
		}
	}
	return n
}

func takesValue(flags []cli.Flag, name string) bool {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			_, isBool := f.(*cli.BoolFlag)
			return !isBool
		}
	}
	return false
}
