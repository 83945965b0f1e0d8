package volume_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounttest"
)

func TestNothingIsWaitedForHardlyAtAllOrForDays(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data"})
	for _, key := range []string{"io-timeout", "durability-timeout"} {
		for value, want := range map[string]error{
			"1s": nil, "24h": nil,
			"0": volume.ErrInvalid, "999ms": volume.ErrInvalid, "-5s": volume.ErrInvalid, "24h1s": volume.ErrInvalid, "5": volume.ErrInvalid,
		} {
			op := &volume.Set{Name: "data", Options: map[string]string{key: value}}
			if want == nil {
				h.do(op)
			} else {
				h.refused(op, want)
				h.refused(&volume.Create{Name: "new", Options: op.Options}, want)
			}
		}
	}
}

func TestAWaitThatAnEarlierVersionTookIsTheNearestThereCanBe(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data", Options: map[string]string{"io-timeout": "100s", "durability-timeout": "20h", "pause": "false"}})
	h.close()
	db, err := os.ReadFile(h.database())
	h.must(err)
	for now, then := range map[string]string{`"100s"`: `"0.1s"`, `"20h"`: `"90h"`} {
		if !bytes.Contains(db, []byte(now)) {
			t.Fatalf("the database lacks %s", now)
		}
		db = bytes.ReplaceAll(db, []byte(now), []byte(then))
	}
	h.must(os.WriteFile(h.database(), db, 0o600))
	h.open()
	h.must(h.Start(t.Context()))
	want := func(want map[string]string) {
		t.Helper()
		i, err := h.Describe(t.Context(), "data")
		h.must(err)
		if !maps.Equal(i.Options, want) {
			t.Errorf("options %v, want %v", i.Options, want)
		}
	}
	want(map[string]string{"io-timeout": "1s", "durability-timeout": "24h0m0s", "pause": "false"})
	h.do(&volume.Mount{Name: "data"})
	h.do(&volume.Unmount{Name: "data"})
	h.do(&volume.Set{Name: "data", Options: map[string]string{"pause": ""}})
	want(map[string]string{"io-timeout": "1s", "durability-timeout": "24h0m0s"})
}

func TestOptionsThatContradictEachOtherAreNamed(t *testing.T) {
	for want, options := range map[string]map[string]string{
		"commit=5m cannot be with readonly=true: nothing changes in it":                            {"commit": "5m", "readonly": "true"},
		"exclude=*.o cannot be with follow=1: nothing changes in it":                               {"exclude": "*.o", "follow": "1"},
		"size=1GiB cannot be with readonly=true: nothing changes in it":                            {"size": "1GiB", "readonly": "true", "follow": "true"},
		"overlay=tmpfs cannot be with follow=true: nothing changes in it":                          {"overlay": "tmpfs", "follow": "true"},
		"commit=unmount cannot be with overlay=tmpfs: what is in memory is committed by hand only": {"overlay": "tmpfs", "commit": "unmount"},
		"lower=full cannot be with follow=true: it would be a copy of one state":                   {"lower": "full", "follow": "true"},
		"there is no option \"frob\"":                                                              {"frob": "1", "commit": "5m"},
	} {
		_, err := volume.ParseOptions(options)
		if !errors.Is(err, volume.ErrInvalid) {
			t.Fatalf("%v: %v", options, err)
		}
		if got, _, _ := strings.Cut(err.Error(), "\n"); got != want {
			t.Errorf("%v: %s, want %s", options, got, want)
		}
	}
	for _, options := range []map[string]string{
		{"overlay": "tmpfs", "commit": "manual"}, {"overlay": "disk", "readonly": "true"}, {"commit": "5m", "readonly": "false"}, {"lower": "full", "readonly": "true"},
	} {
		if _, err := volume.ParseOptions(options); err != nil {
			t.Errorf("%v: %v", options, err)
		}
	}
}

func TestChunksThatAreTooSmallAreRefusedAndThoseOfAnEarlierVersionAreTheSmallest(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.refused(&volume.Create{Name: "data", Options: map[string]string{"chunker": "size-1023"}}, volume.ErrInvalid)
	h.do(&volume.Create{Name: "data", Options: map[string]string{"chunker": "size-1024"}})
	h.close()
	db, err := os.ReadFile(h.database())
	h.must(err)
	if !bytes.Contains(db, []byte(`"size-1024"`)) {
		t.Fatal("the database lacks the option")
	}
	h.must(os.WriteFile(h.database(), bytes.ReplaceAll(db, []byte(`"size-1024"`), []byte(`"size-1" `+"  ")), 0o600))
	h.open()
	h.must(h.Start(t.Context()))
	if i, err := h.Describe(t.Context(), "data"); err != nil || i.Options["chunker"] != "size-1024" {
		t.Errorf("%+v, %v", i, err)
	}
	h.write(filepath.Join(h.do(&volume.Mount{Name: "data"}).Path, "a"), "1")
	h.do(&volume.Unmount{Name: "data"})
	h.wantFiles("data", files{"a": "1"})
}

func TestWhoHasAVolumeSaysHowToEndThat(t *testing.T) {
	const stop, unmount = "stop its containers: `docker ps --filter volume=data`", "unmount it first: `volary volume umount data`"
	for want, users := range map[string][]string{
		stop:                  {"docker:1", "docker:2"},
		unmount:               {"cli"},
		stop + "\n" + unmount: {"docker:1", "dir:/mnt"},
	} {
		h := newHost(t, mounttest.NewCopies())
		h.do(&volume.Create{Name: "data"})
		for _, user := range users {
			h.do(&volume.Mount{Name: "data", User: user})
		}
		_, err := h.Do(t.Context(), &volume.Remove{Name: "data"})
		if !errors.Is(err, volume.ErrMounted) || !strings.HasSuffix(err.Error(), "volume is mounted\n"+want) {
			t.Errorf("%v: %v", users, err)
		}
	}
}

// small has no room for a copy of a base.
type small struct{ *mounttest.Copies }

func (s small) Mount(ctx context.Context, base *tree.Snapshot, dir string, o volume.MountOptions) error {
	if o.Full {
		return syscall.ENOSPC
	}
	return s.Copies.Mount(ctx, base, dir, o)
}

func TestAVolumeThatThereIsNoRoomToMountCanBeMountedWithOtherOptions(t *testing.T) {
	for _, commit := range []string{volume.CommitOnUnmount, volume.CommitManually} {
		h := newHost(t, small{mounttest.NewCopies()})
		h.do(&volume.Create{Name: "data", Options: map[string]string{"lower": volume.LowerFull, "commit": commit}})
		h.refused(&volume.Mount{Name: "data"}, syscall.ENOSPC)
		if i, err := h.Inspect(t.Context(), "data"); err != nil || i.Base.Defined() || i.Sequence != 1 {
			t.Errorf("after a mount that was refused: %+v, %v", i, err)
		}
		h.do(&volume.Set{Name: "data", Options: map[string]string{"lower": volume.LowerLazy}})
		h.write(filepath.Join(h.do(&volume.Mount{Name: "data"}).Path, "a"), "1")
		h.do(&volume.Commit{Name: "data"})
		h.do(&volume.Unmount{Name: "data"})
		h.wantFiles("data", files{"a": "1"})
	}
}
