package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// permute moves the flags of a command before its arguments, so that `volary restore REF DIR --delete` means
// what it says; the cli package stops looking for flags at the first argument. Flags that only the program has go before
// the command, so that `volary migrate --kubo URL` does as well. What follows "--" stays.
func permute(app *cli.App, args []string) []string {
	if len(args) == 0 {
		return args
	}
	out := []string{args[0]}
	rest := args[1:]
	flags, commands, general := app.Flags, app.Commands, []string(nil)
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
		if len(commands) == 0 {
			general, rest = takeGeneral(app.Flags, flags, rest)
		}
	}
	if len(out) == 1 {
		return args
	}
	before, after := split(flags, rest)
	return slices.Concat(out[:1], general, out[1:], before, after)
}

// takeGeneral takes those flags that are general ones, and none of a command's own, with their values out of args.
func takeGeneral(general, own []cli.Flag, args []string) (taken, left []string) {
	for len(args) > 0 && args[0] != "--" {
		known := own
		name := flagName(args[0])
		is := name != "" && !has(own, name) && has(general, name)
		if is {
			known = general
		}
		n := 1
		if name != "" && !strings.Contains(args[0], "=") && takesValue(known, name) {
			n = min(2, len(args))
		}
		if is {
			taken = append(taken, args[:n]...)
		} else {
			left = append(left, args[:n]...)
		}
		args = args[n:]
	}
	return taken, append(left, args...)
}

// flagName is empty if a word is no flag.
func flagName(word string) string {
	if len(word) < 2 || word[0] != '-' || word == "--" {
		return ""
	}
	name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
	return name
}

func has(flags []cli.Flag, name string) bool {
	return slices.ContainsFunc(flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
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
	for n < len(args) && flagName(args[n]) != "" {
		name, hasValue := flagName(args[n]), strings.Contains(args[n], "=")
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
