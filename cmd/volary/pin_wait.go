package main

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/urfave/cli/v2"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/api"
)

func pinWaitCommand() *cli.Command {
	return command(cli.Command{
		Name:      "wait",
		Usage:     "wait until the cluster has replicas of a snapshot",
		ArgsUsage: "REF",
		Description: "If there are too few when the time is over, the message names the peers that lag and why, and the exit code is 8.\n" +
			"The cluster goes on all the same.",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "replicas", Aliases: []string{"n"}, Usage: "how many; default: as many as the snapshot needs at least"},
			&cli.DurationFlag{Name: "timeout", Usage: "how long", Value: api.DefaultWaitTimeout},
		},
		Action: func(c *cli.Context) error {
			o := api.WaitOptions{Replicas: c.Int("replicas"), Timeout: c.Duration("timeout")}
			if o.Replicas < 0 || c.IsSet("replicas") && o.Replicas == 0 {
				return usagef("%d replicas cannot be waited for", o.Replicas)
			}
			if o.Timeout <= 0 {
				return usagef("--timeout %s is no time to wait", o.Timeout)
			}
			return onHost(readWrite, func(c *cli.Context, host *openedHost) error {
				root, err := pinRef(c, host.Host)
				if err != nil {
					return err
				}
				st, err := waitFor(c.Context, host.Host, root, o)
				if err != nil {
					return err
				}
				return printReplicas(c, host, root, st)
			})(c)
		},
	}, 1, 1)
}

// waitFor waits for replicas. That there are too few at the end is told as what is done but not all.
func waitFor(ctx context.Context, host *api.Host, root cid.Cid, o api.WaitOptions) (pinset.Status, error) {
	st, err := host.Replicas.Wait(ctx, root, o)
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		err = incompleteError{err.Error()}
	}
	return st, err
}

// waitFlags are for verbs that make something which a cluster is to have.
func waitFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "wait", Usage: "return only when the cluster has `replicas[=N]`; as many as are needed at least without N"},
		&cli.DurationFlag{Name: "wait-timeout", Usage: "wait at most `DURATION`: then the exit code is 8, and the snapshot stands", Value: api.DefaultWaitTimeout},
	}
}

// parseWait reads the flags of waitFlags; wanted is whether anything is to be waited for.
func parseWait(c *cli.Context) (o api.WaitOptions, wanted bool, _ error) {
	text := c.String("wait")
	if text == "" {
		return o, false, nil
	}
	o.Timeout = c.Duration("wait-timeout")
	what, number, counted := strings.Cut(text, "=")
	if counted {
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 {
			what = ""
		}
		o.Replicas = n
	}
	if what != "replicas" {
		return o, false, usagef("--wait %s: want replicas or replicas=N", quote(text))
	}
	if o.Timeout <= 0 {
		return o, false, usagef("--wait-timeout %s is no time to wait", o.Timeout)
	}
	return o, true, nil
}

// canWait refuses to begin what is to be waited for where there is no cluster.
func canWait(ctx context.Context, host *api.Host, wanted bool) error {
	if !wanted {
		return nil
	}
	_, err := host.Replicas.Waiting(ctx)
	return err
}

// doAndWait runs an operation on a volume, prints what it did, and waits for replicas of its head if that is asked for.
func doAndWait(c *cli.Context, op volume.Operation, text func(w io.Writer, res volume.Result)) error {
	o, waits, err := parseWait(c)
	if err != nil {
		return err
	}
	return onHost(create, func(c *cli.Context, host *openedHost) error {
		if err := canWait(c.Context, host.Host, waits); err != nil {
			return err
		}
		res, err := host.Volumes.Do(c.Context, op)
		if err != nil {
			return err
		}
		if err := printResult(c, res, text); err != nil || !waits || !res.Commit.Defined() {
			return err
		}
		_, err = waitFor(c.Context, host.Host, res.Commit.Cid, o)
		return err
	})(c)
}
