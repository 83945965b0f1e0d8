package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/cluster"
	"github.com/volary/volary/pinset/local"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/archive"
	"github.com/volary/volary/snapshot/kubo"
	"github.com/volary/volary/snapshot/restorer"
	"github.com/volary/volary/snapshot/store"
	"github.com/volary/volary/statedb"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/api"
	"github.com/volary/volary/volume/overlay"
)

// Exit codes. They are documented in the help, and never change their meaning.
const (
	exitOK          = 0
	exitDiffer      = 1 // diff: the two differ
	exitUsage       = 2
	exitNotFound    = 3 // no such path, snapshot or block
	exitDamaged     = 4 // a damaged block, archive or state directory, or a format that is not known
	exitDenied      = 5 // not permitted, or read-only
	exitNoSpace     = 6
	exitBusy        = 7 // another process holds the state, or a volume is mounted, here or elsewhere
	exitIncomplete  = 8 // done, but not everything could be
	exitNewer       = 9 // the state was written by a newer version
	exitOther       = 10
	exitExists      = 11 // the name is taken by a volume or a tag
	exitBroken      = 12 // doctor: something is broken
	exitConflicts   = 13 // merge: there are conflicts, and nothing was changed
	exitInterrupted = 130
)

const exitCodeHelp = `Results go to standard output, everything else to standard error.

Exit codes: 0 done; 1 diff: the two differ; 2 wrong usage; 3 no such path, snapshot or block;
4 damaged or malformed data; 5 not permitted or read-only; 6 no space left; 7 the state or a volume is in use;
8 done, but not everything could be; 9 the state is of a newer version; 10 any other error;
11 the name is taken; 12 doctor: something is broken; 13 merge: there are conflicts;
130 interrupted, or the question not answered with yes.`

var errInterrupted = errors.New("interrupted\nwhat was stored stays; run the command again to go on")

// errEnded is how a command ends that goes on until it is interrupted; it is no message.
var errEnded = errors.New("ended")

// errDiffer is how diff says that there are differences; it is no message.
var errDiffer = errors.New("differ")

// incompleteError is a result that was delivered with something missing, which has been said already.
type incompleteError struct{ text string }

func (e incompleteError) Error() string { return e.text }

// brokenError is what doctor found, which has been said already.
type brokenError struct{ text string }

func (e brokenError) Error() string { return e.text }

// hinted is an error with another hint than its own.
type hinted struct {
	error
	hint string
}

func (e hinted) Error() string {
	text, _, _ := strings.Cut(e.error.Error(), "\n")
	return text + "\n" + e.hint
}

func (e hinted) Unwrap() error { return e.error }

// worded is an error of a kind that it says in words of its own.
type worded struct {
	text string
	kind error
}

func (e worded) Error() string { return e.text }
func (e worded) Unwrap() error { return e.kind }

// usageError is a call that cannot be meant.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// report prints an error as one line, and what to do about it on the next ones, and returns the exit code.
func report(stderr io.Writer, err error) int {
	code := exitCode(err)
	if code == exitOK || code == exitDiffer || code == exitConflicts || errors.Is(err, errEnded) {
		return code
	}
	text, hint, _ := strings.Cut(err.Error(), "\n")
	if hint == "" {
		hint = hintFor(code, err)
	}
	fmt.Fprintln(stderr, "volary: "+abbreviate(text))
	for line := range strings.Lines(hint) {
		fmt.Fprintln(stderr, "  "+strings.TrimRight(line, "\n"))
	}
	return code
}

// maxLine is how many bytes of an error are printed: a path can have thousands.
const maxLine = 600

func abbreviate(text string) string {
	if len(text) <= maxLine {
		return text
	}
	return strings.ToValidUTF8(text[:maxLine/2], "") + " … " + strings.ToValidUTF8(text[len(text)-maxLine/2:], "")
}

// exitCode is the one place where errors become exit codes.
func exitCode(err error) int {
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	var usage usageError
	var incomplete incompleteError
	var broken brokenError
	var syntax *json.SyntaxError
	switch {
	case err == nil:
		return exitOK
	case is(errConflicts):
		return exitConflicts
	case is(errDiffer):
		return exitDiffer
	case errors.As(err, &usage) || is(volume.ErrInvalid, api.ErrNoCluster, api.ErrNoNetwork):
		return exitUsage
	case is(volume.ErrExist):
		return exitExists
	case is(errInterrupted, errEnded, errDeclined, context.Canceled):
		return exitInterrupted
	case errors.As(err, &broken):
		return exitBroken
	case errors.As(err, &incomplete):
		return exitIncomplete
	case is(store.ErrLocked, store.ErrBusy, restorer.ErrBusy, api.ErrLive, volume.ErrMounted, volume.ErrLeased, volume.ErrInUse, volume.ErrCannotPause):
		return exitBusy
	case is(store.ErrNewer, local.ErrNewer, api.ErrVersion, volume.ErrNewer):
		return exitNewer
	case is(syscall.ENOSPC, syscall.EDQUOT):
		return exitNoSpace
	case is(snapshot.ErrDamaged, snapshot.ErrFormat, store.ErrCorrupt, archive.ErrIncomplete, overlay.ErrMismatch) || errors.As(err, &syntax):
		return exitDamaged
	case is(fs.ErrPermission, syscall.EROFS, store.ErrReadOnly, kubo.ErrDenied, cluster.ErrUnauthorized):
		return exitDenied
	case is(fs.ErrNotExist, syscall.ENOTDIR, snapshot.ErrNotFound, snapshot.ErrNotFetched, pinset.ErrNotPinned):
		return exitNotFound
	default:
		return exitOther
	}
}

func hintFor(code int, err error) string {
	var damaged *statedb.DamagedError
	if errors.As(err, &damaged) {
		return databaseHint(damaged.Path)
	}
	switch {
	case code == exitNoSpace:
		return "nothing that was stored is lost; make room and run the command again (`volary gc` frees what no snapshot needs)"
	case errors.Is(err, store.ErrCorrupt):
		return "restore that file from a copy of the state directory, or move the directory away and begin anew"
	case errors.Is(err, volume.ErrCannotMount):
		return "start one as root, `volary daemon`, and run the command again"
	case errors.Is(err, api.ErrNoCluster):
		return "give kubo and cluster in config.toml, --kubo and --cluster, or VOLARY_KUBO and VOLARY_CLUSTER"
	case errors.Is(err, api.ErrNoNetwork):
		return "give listen or peers in config.toml, and start the daemon again"
	case code == exitNewer:
		return "use a newer volary with this state"
	case errors.Is(err, snapshot.ErrNotFetched):
		return "a peer that has it may be away; fetch_timeout in config.toml says how long it is looked for"
	case errors.Is(err, snapshot.ErrNotFound):
		return "it is not on this host, and nobody who is connected has it: `volary peers`\nstates that a volume's option keep let go of are gone: `volary volume log` says which"
	case errors.Is(err, kubo.ErrDenied):
		return "see kubo_auth_file in config.toml, and API.Authorizations of the daemon"
	case errors.Is(err, cluster.ErrUnauthorized):
		return "see cluster_auth_file in config.toml"
	case errors.Is(err, snapshot.ErrDamaged):
		return "`volary verify --repair` drops damaged blocks, so that snapshotting or importing the data again restores them"
	}
	return ""
}

// databaseHint says what to do about a damaged database of the state, and what is lost without it.
func databaseHint(path string) string {
	away := fmt.Sprintf("restore it from a copy of the state directory, or move %s away and run the command again; ", path)
	switch filepath.Base(path) {
	case headsFile:
		return away + "this host's volumes\nare put into a new one, and those of other hosts are learned again, from them and from the cluster"
	case outboxFile:
		return away + "what waited in it\nthe cluster is told when a daemon starts, or with `volary gc`, which compare what is kept with its list"
	case volume.StateFile:
		return away + "the names of\nvolumes are then lost but for those that the cluster has; changes that were not committed become snapshots when the\ndaemon starts, and the snapshots stay: `volary tag` and `volary pin ls` list them"
	}
	return strings.TrimSuffix(away, "; ")
}
