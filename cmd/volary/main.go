// Command volary turns directories into snapshots named by a CID, and back.
//
// Each verb is a file of its own here. wire.go puts the parts together, exit.go maps errors to exit codes;
// everything else is in the packages below snapshot, pinset and volume.
package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"

	"github.com/urfave/cli/v2"
)

// memoryLimit makes the garbage collector work harder before the process is larger than a small machine can
// spare; it is no bound on what is really needed.
const memoryLimit = 384 << 20

func main() {
	debug.SetMemoryLimit(memoryLimit)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, os.Args, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole program: it parses the arguments, does what they say and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	out := &sink{w: stdout}
	app := newApp(out, stderr)
	if last := len(args) - 1; last > 0 && args[last] == completeFlag {
		complete(out, app, args[1:last])
		return exitOK
	}
	if len(args) > 1 && (args[1] == "--version" || args[1] == "-v") {
		args = slices.Concat(args[:1], []string{"version"}, args[2:])
	}
	err := app.RunContext(ctx, permute(app, args))
	if ctx.Err() != nil && err != nil && !errors.Is(err, errNotEnding) && !errors.Is(err, errEnded) {
		err = errInterrupted
	}
	if err == nil || errors.Is(err, errDiffer) || errors.Is(err, errConflicts) {
		err = cmp.Or(out.err, err)
	}
	return report(stderr, err)
}

func newApp(stdout, stderr io.Writer) *cli.App {
	return &cli.App{
		Name:                   "volary",
		Usage:                  "directories as immutable snapshots, named by a CID",
		Description:            exitCodeHelp,
		Writer:                 stdout,
		ErrWriter:              stderr,
		UseShortOptionHandling: true,
		HideVersion:            true,
		// A pattern or a label may have a comma.
		DisableSliceFlagSeparator: true,
		Suggest:                   true,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "home", EnvVars: []string{"VOLARY_HOME"}, Usage: "`DIR` that holds the state"},
		}, backendFlags()...),
		Commands: []*cli.Command{
			initCommand(), tokenCommand(), namespaceCommand(), migrateCommand(), daemonCommand(), statusCommand(), peersCommand(), doctorCommand(), configCommand(), versionCommand(), completionCommand(),
			snapshotCommand(), restoreCommand(), lsCommand(), catCommand(), statCommand(), duCommand(),
			diffCommand(), verifyCommand(), logCommand(), tagCommand(), pinCommand(), rmCommand(),
			exportCommand(), importCommand(), hydrateCommand(), shareCommand(), pullCommand(), gcCommand(), volumeCommand(), watchCommand(),
			mountCommand(), umountCommand(), serveMountCommand(), holderCommand(), pluginCommand(),
		},
		ExitErrHandler: func(*cli.Context, error) {}, // run maps errors itself
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return usageError{err.Error()} },
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usagef("there is no command %q\nsee `volary help`", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
	}
}

// command fills in what all verbs have in common: the --json flag, the number of arguments, the treatment of
// wrong flags.
func command(c cli.Command, minArgs, maxArgs int) *cli.Command {
	action := c.Action
	c.Flags = append(c.Flags, &cli.BoolFlag{Name: "json", Usage: "print JSON, one object a line"})
	c.OnUsageError = func(x *cli.Context, err error, _ bool) error {
		return usagef("%v\nsee `%s --help`", err, x.Command.HelpName)
	}
	c.Action = func(ctx *cli.Context) error {
		if n := ctx.NArg(); n < minArgs || maxArgs >= 0 && n > maxArgs {
			wanted := c.ArgsUsage
			if wanted == "" {
				wanted = "no arguments"
			}
			return usagef("%s takes %s, and was given %d\nsee `%s --help`", c.Name, wanted, n, ctx.Command.HelpName)
		}
		for _, arg := range ctx.Args().Slice() {
			if arg == "" {
				return usagef("%s was given an empty argument, perhaps an unset variable", c.Name)
			}
		}
		return action(ctx)
	}
	return &c
}
