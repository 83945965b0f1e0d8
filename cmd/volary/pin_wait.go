package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/urfave/cli/v2"

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
				w, err := waitFor(c, host.Host, root, o)
				if err != nil {
					return err
				}
				return printReplicas(c, host, w.Root, w.Status)
			})(c)
		},
	}, 1, 1)
}

// waitFor waits for replicas. That there are too few at the end is told as what is done but not all.
func waitFor(c *cli.Context, host *api.Host, root cid.Cid, o api.WaitOptions) (api.Waited, error) {
	bar := newReplicaBar(c, o.Replicas)
	defer bar.finish()
	at := root
	o.Progress = func(w api.Waited) {
		if w.Root != at {
			at = w.Root
			bar.say(c, fmt.Sprintf("%s is waited for, the newer state of the volume that took the place of %s before the cluster was told", at, root))
		}
		bar.replicas(w.Status)
	}
	w, err := host.Replicas.Wait(c.Context, root, o)
	if c.Context.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		err = incompleteError{err.Error()}
	}
	return w, err
}

// waitFlags are for verbs that make something which a cluster is to have.
func waitFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "wait", Usage: "return only when the cluster has `replicas[=N]`; as many as are needed at least without N; local: do not wait for it"},
		&cli.DurationFlag{Name: "wait-timeout", Usage: "wait at most `DURATION`: then the exit code is 8, and the snapshot stands; 2m if not given"},
	}
}

// wanted is how far a verb waits for what it made.
type wanted struct {
	api.WaitOptions
	given    bool // by --wait; otherwise a volume's options decide
	replicas bool
}

// parseWait reads the flags of waitFlags.
func parseWait(c *cli.Context) (w wanted, _ error) {
	w.Timeout = c.Duration("wait-timeout")
	if w.Timeout < 0 || w.Timeout == 0 && c.IsSet("wait-timeout") {
		return w, usagef("--wait-timeout %s is no time to wait", w.Timeout)
	}
	text := c.String("wait")
	if w.given = text != ""; !w.given || text == "local" {
		return w, nil
	}
	what, number, counted := strings.Cut(text, "=")
	if counted {
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 {
			what = ""
		}
		w.Replicas = n
	}
	if w.replicas = what == "replicas"; !w.replicas {
		return w, usagef("--wait %s: want replicas, replicas=N or local", quote(text))
	}
	return w, nil
}

// possible refuses to begin what is to be waited for where there is no cluster, or never so many replicas.
func (w wanted) possible(ctx context.Context, host *openedHost) error {
	if !w.replicas {
		return nil
	}
	if _, err := host.Replicas.Waiting(ctx); err != nil {
		return err
	}
	_, most, err := host.home.config.replicas()
	if err == nil && most > 0 && w.Replicas > most {
		err = usagef("--wait replicas=%d: the settings ask for at most %d", w.Replicas, most)
	}
	return err
}

// of adds what a volume's options say to what the command line does not. What op did is known.
func (w wanted) of(op volume.Operation, res volume.Result) (wanted, error) {
	if w.given || res.Volume == nil || !volume.WaitsForReplicas(op, res) {
		return w, nil
	}
	o, err := volume.ParseOptions(res.Volume.Options)
	w.replicas = o.Durability == volume.DurabilityCluster
	w.Timeout = cmp.Or(w.Timeout, o.DurabilityTimeout)
	return w, err
}

// doAndWait runs an operation on a volume, prints what it did, and waits for replicas of its head if that is asked for:
// the operation does not, so that it can be shown how far the cluster has got.
func doAndWait(c *cli.Context, host *openedHost, w wanted, op volume.Operation, text func(w io.Writer, res volume.Result)) error {
	res, err := host.Volumes.Do(c.Context, op)
	if err != nil {
		return err
	}
	return printAndWait(c, host, w, op, res, text)
}

// printAndWait prints what an operation did, and waits for replicas of the head if that is asked for.
func printAndWait(c *cli.Context, host *openedHost, w wanted, op volume.Operation, res volume.Result, text func(w io.Writer, res volume.Result)) error {
	w, err := w.of(op, res)
	if err != nil {
		return err
	}
	if err := printResult(c, res, text); err != nil || !w.replicas || !res.Commit.Defined() {
		return err
	}
	return waitForMade(c, host.Host, res.Commit.Cid, w.WaitOptions)
}

// waitForMade waits for replicas of what stands in any case.
func waitForMade(c *cli.Context, host *api.Host, root cid.Cid, o api.WaitOptions) error {
	_, err := waitFor(c, host, root, o)
	if errors.Is(err, volume.ErrInvalid) {
		err = incompleteError{err.Error()}
	}
	return err
}
