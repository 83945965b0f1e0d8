package volume

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/volary/volary/snapshot/importer"
)

// CommitOnUnmount, CommitManually: when the changes of a volume become a commit by themselves.
const (
	CommitOnUnmount = "unmount"
	CommitManually  = "manual"
)

// Where a volume's base and changes are.
const (
	LowerLazy    = "lazy"  // the base is read from its blocks when something reads it
	LowerFull    = "full"  // the base is copied to the local disk when it is mounted
	OverlayDisk  = "disk"  // changes are on the local disk
	OverlayTmpfs = "tmpfs" // changes are in memory, and gone when the volume is unmounted
)

// DefaultHookTimeout is how long a hook may take.
const DefaultHookTimeout = time.Minute

// DefaultTrash is how long a removed volume can be taken back.
const DefaultTrash = 7 * 24 * time.Hour

// MinSize is the smallest size of a volume, in bytes.
const MinSize = 1 << 20

// MinChunk is the smallest size of chunks that a volume can have, in bytes: each is a block of its own.
const MinChunk = 1 << 10

// MinWait, MaxWait: bounds of how long a read waits for data, and a commit for replicas.
const (
	MinWait = time.Second
	MaxWait = 24 * time.Hour
)

// VolumeOptions are what a volume is made with, as KEY=VALUE.
type VolumeOptions struct {
	Commit            string        // CommitOnUnmount or CommitManually, beside Interval
	Interval          time.Duration // between commits while mounted; 0: none
	Quiet             time.Duration // commit when nothing was changed for so long; 0: not for that
	Chunker           string        // empty: that of the base
	Keep              Keep          // which commits stay; the zero value: all
	Exclude           []string      // patterns of gitignore(5) of what is not committed
	ReadOnly          bool
	Publish           bool   // IPFS programs that are connected resolve its IPNS name
	Lower             string // LowerLazy or LowerFull
	Overlay           string // OverlayDisk or OverlayTmpfs
	Follow            bool   // it is mounted read-only, and each new state is shown
	Hooks             Hooks  // around every commit
	ExecHead          string // shell command for every new head
	NoPause           bool   // commits on an interval do not stop those who write
	Trash             time.Duration
	Size              uint64        // bytes that changes may take until they are committed and the volume unmounted; 0: any number
	IOTimeout         time.Duration // how long a block of the base is waited for; 0: as long as the Mounter does
	Durability        string        // DurabilityLocal or DurabilityCluster
	DurabilityTimeout time.Duration // how long a commit waits for replicas
	Replicas          Replicas      // how many peers of the cluster are to hold it; the zero value: as many as the host's settings say

	UID, GID uint32 // of a fresh volume's root
	Mode     uint16
}

// optionKeys say what each key's value is.
func optionKeys() map[string]string {
	return map[string]string{
		"chunker":            "how files are cut: size-N, of 1024 to 2096896 bytes, rabin-MIN-AVG-MAX or buzhash",
		"commit":             "unmount (the default), manual, an interval such as 5m, or quiet:30s, when nothing was changed for so long",
		"durability":         "local (the default): a commit is done once it is safe on this host; cluster: once as many peers of the cluster hold it as are to, at least",
		"durability-timeout": "how long a commit waits for them, from 1s to 24h; 2m if not given. It stands all the same",
		"exec-after":         "shell command that is run after the files of a commit of a mounted volume were read",
		"exec-before":        "shell command that is run before they are read, such as one that checkpoints a database; VOLARY_MOUNTPOINT says where",
		"exec-head":          "shell command that is run on this host when the volume has a new head, whoever made it; VOLARY_VOLUME, VOLARY_HEAD, VOLARY_SEQUENCE and, if it is mounted, VOLARY_MOUNTPOINT say which",
		"exec-timeout":       "how long each of these may take; 1m if not given",
		"follow":             "true or false: it is mounted read-only, and shows each new state of itself; not with from",
		"lower":              "lazy (the default): read the base when it is needed; full: copy it when the volume is mounted",
		"io-timeout":         "how long a read waits for data that nobody has, before it fails, from 1s to 24h; that of the daemon if not given",
		"overlay":            "disk (the default), or tmpfs: changes in memory, gone with the mount unless they are committed by hand",
		"exclude":            "patterns, separated by commas, of what is never committed: what is new is gone once the volume is unmounted, what the last commit has stays in it as it was",
		"gid":                "group of an empty volume's root; not with from",
		"keep":               "which snapshots stay, such as last:5,hourly:24,daily:7,weekly:4,monthly:12; all if not given",
		"mode":               "permissions of an empty volume's root, in octal; not with from",
		"pause":              "true (the default) or false: commits on an interval stop those who write, while they read what changed",
		optionReplicas:       "how many peers of the cluster are to hold what is committed, at least and at most, such as 2 or 2-3; as the settings say if not given",
		"publish":            "true or false: IPFS programs that this host is connected to, such as Kubo with Ipns.UsePubsub, resolve the volume's /ipns/ name",
		"readonly":           "true or false: nothing can be changed",
		"size":               "how much changes may take until the volume is unmounted, such as 10GiB or 500MB",
		"trash":              "how long the volume can be taken back once removed, such as 168h",
		"uid":                "owner of an empty volume's root; not with from",
	}
}

// ParseOptions reads a volume's options. An unknown key, a value that is not one, or options that contradict
// each other are an error that wraps ErrInvalid and lists what is valid, with also, the keys that mean something where
// these were given, and nothing here.
func ParseOptions(given map[string]string, also ...string) (VolumeOptions, error) {
	o := VolumeOptions{
		Commit: CommitOnUnmount, Trash: DefaultTrash, Mode: 0o755, Lower: LowerLazy, Overlay: OverlayDisk,
		Hooks: Hooks{Timeout: DefaultHookTimeout}, Durability: DurabilityLocal, DurabilityTimeout: DefaultDurabilityTimeout,
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		value := given[key]
		usage, known := optionKeys()[key]
		if !known {
			keys := slices.Concat(also, slices.Collect(maps.Keys(optionKeys())))
			slices.Sort(keys)
			return o, invalidf("there is no option %q\nthe options are %s", key, strings.Join(keys, ", "))
		}
		if err := o.set(key, value); err != nil {
			return o, fmt.Errorf("option %s=%s: %w\n%s is %s", key, value, ErrInvalid, key, usage)
		}
	}
	if err := o.agree(given); err != nil {
		return o, err
	}
	if o.Overlay == OverlayTmpfs {
		o.Commit = CommitManually
	}
	o.ReadOnly = o.ReadOnly || o.Follow
	return o, nil
}

// agree refuses options that contradict each other.
func (o *VolumeOptions) agree(given map[string]string) error {
	not := func(key, other, why string) error {
		return invalidf("%s=%s cannot be with %s=%s: %s", key, given[key], other, given[other], why)
	}
	unchanging := ""
	if o.ReadOnly {
		unchanging = "readonly"
	} else if o.Follow {
		unchanging = "follow"
	}
	switch {
	case o.Follow && o.Lower == LowerFull:
		return not("lower", "follow", "it would be a copy of one state")
	case o.Overlay == OverlayTmpfs && unchanging != "":
		return not("overlay", unchanging, "nothing changes in it")
	case o.Overlay == OverlayTmpfs && given["commit"] != "" && given["commit"] != CommitManually:
		return not("commit", "overlay", "what is in memory is committed by hand only")
	case unchanging == "":
		return nil
	}
	for _, key := range []string{"chunker", "commit", "exclude", "size"} {
		if given[key] != "" {
			return not(key, unchanging, "nothing changes in it")
		}
	}
	return nil
}

func (o *VolumeOptions) set(key, value string) error {
	var err error
	number := func(base, bits int) uint64 {
		n, e := strconv.ParseUint(value, base, bits)
		err = e
		return n
	}
	switch key {
	case "chunker":
		o.Chunker, err = value, importer.CheckChunker(value)
		if n, sized := chunkSize(value); sized && n < MinChunk {
			err = ErrInvalid
		}
	case "commit":
		if o.Commit = value; value != CommitOnUnmount && value != CommitManually {
			o.Commit = CommitOnUnmount
			o.Interval, o.Quiet, err = parseWhen(value)
		}
	case "durability":
		if o.Durability = value; value != DurabilityLocal && value != DurabilityCluster {
			err = ErrInvalid
		}
	case "durability-timeout":
		o.DurabilityTimeout, err = parseWait(value)
	case "exec-after":
		o.Hooks.After = value
	case "exec-before":
		o.Hooks.Before = value
	case "exec-head":
		o.ExecHead = value
	case "follow":
		o.Follow, err = strconv.ParseBool(value)
	case "exec-timeout":
		if o.Hooks.Timeout, err = time.ParseDuration(value); err == nil && o.Hooks.Timeout <= 0 {
			err = ErrInvalid
		}
	case "lower":
		if o.Lower = value; value != LowerLazy && value != LowerFull {
			err = ErrInvalid
		}
	case "overlay":
		if o.Overlay = value; value != OverlayDisk && value != OverlayTmpfs {
			err = ErrInvalid
		}
	case "exclude":
		o.Exclude = strings.Split(value, ",")
		err = checkPatterns(o.Exclude)
	case "keep":
		o.Keep, err = ParseKeep(value)
	case "pause":
		var pause bool
		pause, err = strconv.ParseBool(value)
		o.NoPause = !pause
	case "publish":
		o.Publish, err = strconv.ParseBool(value)
	case optionReplicas:
		o.Replicas, err = ParseReplicas(value)
	case "readonly":
		o.ReadOnly, err = strconv.ParseBool(value)
	case "size":
		if o.Size, err = humanize.ParseBytes(value); err == nil && (o.Size < MinSize || o.Size > math.MaxInt64) {
			err = ErrInvalid
		}
	case "io-timeout":
		o.IOTimeout, err = parseWait(value)
	case "trash":
		if o.Trash, err = time.ParseDuration(value); err == nil && o.Trash < 0 {
			err = ErrInvalid
		}
	case "uid":
		o.UID = uint32(number(10, 32))
	case "gid":
		o.GID = uint32(number(10, 32))
	case "mode":
		if o.Mode = uint16(number(8, 12)); err != nil {
			err = ErrInvalid
		}
	}
	return err
}

// OptionHelp lists the options, one a line.
func OptionHelp() string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(optionKeys())) {
		fmt.Fprintf(&b, "  %-18s %s\n", key, optionKeys()[key])
	}
	return b.String()
}

// optionReplicas is the option that names how many peers of a cluster are to hold a volume.
const optionReplicas = "replicas"

// Replicas are how many peers of a cluster are to hold something.
type Replicas struct{ Min, Max int }

// ParseReplicas reads a number, or MIN-MAX.
func ParseReplicas(text string) (Replicas, error) {
	low, high, ranged := strings.Cut(text, "-")
	if !ranged {
		high = low
	}
	least, err := strconv.Atoi(low)
	most, err2 := strconv.Atoi(high)
	if errors.Join(err, err2) != nil || least < 1 || most < least {
		return Replicas{}, fmt.Errorf("replicas %q is no number or range such as 2-3", text)
	}
	return Replicas{least, most}, nil
}

// parseWhen reads an interval, or quiet: and how long.
func parseWhen(value string) (interval, quiet time.Duration, err error) {
	text, isQuiet := strings.CutPrefix(value, "quiet:")
	t, err := time.ParseDuration(text)
	switch {
	case err != nil || t < time.Second:
		return 0, 0, ErrInvalid
	case isQuiet:
		return 0, t, nil
	}
	return t, 0, nil
}

func parseWait(value string) (time.Duration, error) {
	t, err := time.ParseDuration(value)
	if err == nil && (t < MinWait || t > MaxWait) {
		err = ErrInvalid
	}
	return t, err
}

// chunkSize is the size of a chunker that has one.
func chunkSize(chunker string) (n uint64, sized bool) {
	text, sized := strings.CutPrefix(chunker, "size-")
	n, err := strconv.ParseUint(text, 10, 64)
	return n, sized && err == nil
}

// withinBounds are options with the nearest wait, and size of chunks, there can be for each that is none: an earlier
// version took any.
func withinBounds(options map[string]string) map[string]string {
	if n, sized := chunkSize(options["chunker"]); sized && n > 0 && n < MinChunk {
		options = with(options, map[string]string{"chunker": fmt.Sprintf("size-%d", MinChunk)})
	}
	for _, key := range []string{"durability-timeout", "io-timeout"} {
		if t, err := time.ParseDuration(options[key]); err == nil && (t < MinWait || t > MaxWait) {
			options = with(options, map[string]string{key: min(max(t, MinWait), MaxWait).String()})
		}
	}
	return options
}

// checkPatterns refuses patterns that would leave out everything, or that are none.
func checkPatterns(patterns []string) error {
	for _, p := range patterns {
		if strings.Trim(p, " /*!") == "" {
			return ErrInvalid
		}
		if err := importer.CheckPattern(p); err != nil {
			return err
		}
	}
	return nil
}
