package head

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/ipfs/boxo/ipns"
	pb "github.com/ipfs/boxo/ipns/pb"
	"github.com/ipfs/boxo/path"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"google.golang.org/protobuf/proto"

	"github.com/volary/volary/namespace"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/dagcbor"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var (
	made     = time.Date(2026, 11, 22, 10, 11, 12, 131415, time.UTC)
	sameCID  = gocmp.Comparer(func(x, y cid.Cid) bool { return x == y })
	sameName = gocmp.Comparer(ipns.Name.Equal)
)

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func volumeKey(t testing.TB, name string) crypto.PrivKey {
	t.Helper()
	n := must(namespace.Open(namespace.Secret{1, 2, 3}))(t)
	return must(n.DeriveKey(name, 1))(t)
}

func commitCID(t testing.TB, n int) cid.Cid {
	return must(dagcbor.Encode(fmt.Sprint("commit ", n)))(t).Cid()
}

func sample(t testing.TB) Head {
	return must(Sign(volumeKey(t, "data"), commitCID(t, 1), 5, made))(t)
}

func forkOf(t testing.TB, n int, sequence uint64) snapshot.State {
	return snapshot.State{CID: commitCID(t, n), Sequence: sequence}
}

// sampleFork is the head of a commit that is a fork of state 4.
func sampleFork(t testing.TB) Head {
	return must(SignCommit(volumeKey(t, "data"), commitCID(t, 1), &snapshot.Commit{Sequence: 5, Time: made, Fork: forkOf(t, 2, 4)}))(t)
}

func TestHeadReadsBackAsSigned(t *testing.T) {
	for _, want := range []Head{
		sample(t), sampleFork(t),
		must(Sign(volumeKey(t, "data"), commitCID(t, 2), MaxSequence, time.Unix(0, 0)))(t),
		must(Sign(volumeKey(t, "data"), commitCID(t, 3), 1, time.Unix(0, 1<<63-1)))(t),
		must(Sign(volumeKey(t, "data"), commitCID(t, 3), 1, time.Date(9990, 1, 1, 0, 0, 0, 0, time.Local)))(t),
	} {
		got := must(Verify(want.Volume, want.Record))(t)
		if diff := gocmp.Diff(want, got, sameCID, sameName); diff != "" {
			t.Errorf("(-signed +read):\n%s", diff)
		}
	}
}

func TestHeadEqualsTheGoldenFile(t *testing.T) {
	for name, got := range map[string][]byte{"record.ipns": sample(t).Record, "record-fork.ipns": sampleFork(t).Record} {
		file := filepath.Join("testdata", "golden", name)
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want := must(os.ReadFile(file))(t); !bytes.Equal(want, got) {
			t.Errorf("%s: a published format has changed:\n got %q\nwant %q", name, got, want)
		}
	}
}

func TestHeadIsARecordThatOtherIPFSProgramsResolveToTheFiles(t *testing.T) {
	h := sample(t)
	r := must(ipns.UnmarshalRecord(h.Record))(t)
	if err := ipns.ValidateWithName(r, h.Volume); err != nil {
		t.Fatal(err)
	}
	if value := must(r.Value())(t).String(); value != "/ipfs/"+commitCID(t, 1).String()+"/tree" {
		t.Errorf("resolves to %s", value)
	}
	if n := must(r.Sequence())(t); n != 5 {
		t.Errorf("sequence %d", n)
	}
	if eol := must(r.Validity())(t); !eol.Equal(made.AddDate(100, 0, 0)) {
		t.Errorf("valid until %s", eol)
	}
}

func TestHeadWhoseTimeIsOverIsStillAHead(t *testing.T) {
	h := must(Sign(volumeKey(t, "data"), commitCID(t, 1), 1, time.Date(1800, 1, 1, 0, 0, 0, 0, time.UTC)))(t)
	if h.EndOfLife.Year() != 1900 {
		t.Errorf("end of life %s", h.EndOfLife)
	}
}

func TestWhatIsNoHeadIsNotSigned(t *testing.T) {
	key := volumeKey(t, "data")
	v0 := must(cid.Decode("QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"))(t)
	for what, sign := range map[string]func() (Head, error){
		"sequence 0":       func() (Head, error) { return Sign(key, commitCID(t, 1), 0, made) },
		"sequence too big": func() (Head, error) { return Sign(key, commitCID(t, 1), MaxSequence+1, made) },
		"no commit":        func() (Head, error) { return Sign(key, cid.Undef, 1, made) },
		"a file's CID":     func() (Head, error) { return Sign(key, v0, 1, made) },
		"raw block's CID":  func() (Head, error) { return Sign(key, cid.NewCidV1(cid.Raw, commitCID(t, 1).Hash()), 1, made) },
		"time before years": func() (Head, error) {
			return Sign(key, commitCID(t, 1), 1, time.Date(-200, 1, 1, 0, 0, 0, 0, time.UTC))
		},
	} {
		if _, err := sign(); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", what, err)
		}
	}
	rsa, _, err := crypto.GenerateSecp256k1Key(bytes.NewReader(bytes.Repeat([]byte{1}, 100)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Sign(rsa, commitCID(t, 1), 1, made); !errors.Is(err, namespace.ErrFormat) {
		t.Errorf("another kind of key: %v", err)
	}
}

func TestForgedChangedAndOversizedRecordsAreRefused(t *testing.T) {
	h := sample(t)
	other := must(namespace.NameOf(volumeKey(t, "other")))(t)
	if _, err := Verify(other, h.Record); !errors.Is(err, ErrSignature) {
		t.Errorf("another volume's: %v", err)
	}
	for i := range h.Record {
		changed := slices.Clone(h.Record)
		changed[i] ^= 1
		if _, err := Verify(h.Volume, changed); !errors.Is(err, ErrFormat) && !errors.Is(err, ErrSignature) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if _, err := Verify(h.Volume, h.Record[:i]); !errors.Is(err, ErrFormat) {
			t.Fatalf("cut to %d: %v", i, err)
		}
	}
	// A protobuf reader takes an empty unknown field and a field that comes twice.
	for _, more := range [][]byte{{0x7a, 0}, h.Record, make([]byte, MaxRecord)} {
		if _, err := Verify(h.Volume, slices.Concat(h.Record, more)); !errors.Is(err, ErrFormat) {
			t.Errorf("with %d bytes more: %v", len(more), err)
		}
	}
	if _, err := Verify(ipns.Name{}, h.Record); err == nil {
		t.Error("a record of nobody was accepted")
	}
}

func TestSignedRecordsThatAreNoHeadsAreRefused(t *testing.T) {
	key := volumeKey(t, "data")
	volume := must(namespace.NameOf(key))(t)
	commit := commitCID(t, 1).String()
	for what, tc := range map[string]struct {
		value string
		ttl   time.Duration
		opts  []ipns.Option
	}{
		"another path":       {"/ipfs/" + commit + "/meta", cacheFor, nil},
		"path below":         {"/ipfs/" + commit + "/tree/etc", cacheFor, nil},
		"no path":            {"/ipfs/" + commit, cacheFor, nil},
		"an IPNS name":       {"/ipns/" + volume.String() + "/tree", cacheFor, nil},
		"another base":       {"/ipfs/" + must(commitCID(t, 1).StringOfBase('z'))(t) + "/tree", cacheFor, nil},
		"another cache":      {"/ipfs/" + commit + "/tree", time.Hour, nil},
		"metadata":           {"/ipfs/" + commit + "/tree", cacheFor, []ipns.Option{ipns.WithMetadata(map[string]any{"_x": "y"})}},
		"a fork that is not": {"/ipfs/" + commit + "/tree", cacheFor, []ipns.Option{ipns.WithMetadata(map[string]any{"_fork": false})}},
		"a fork of no state": {"/ipfs/" + commit + "/tree", cacheFor, []ipns.Option{ipns.WithMetadata(map[string]any{"_fork": make([]byte, 8)})}},
		"a fork of a later":  {"/ipfs/" + commit + "/tree", cacheFor, []ipns.Option{ipns.WithMetadata(map[string]any{"_fork": encodeFork(forkOf(t, 2, 1))})}},
		"the first version":  {"/ipfs/" + commit + "/tree", cacheFor, []ipns.Option{ipns.WithV1Compatibility(true)}},
		"key embedded":       {"/ipfs/" + commit + "/tree", cacheFor, []ipns.Option{ipns.WithPublicKey(true)}},
	} {
		opts := append([]ipns.Option{ipns.WithV1Compatibility(false)}, tc.opts...)
		r := must(ipns.NewRecord(key, must(path.NewPath(tc.value))(t), 1, made, tc.ttl, opts...))(t)
		if _, err := Verify(volume, must(ipns.MarshalRecord(r))(t)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", what, err)
		}
	}
}

func TestHeadsAreOrderedTheSameEverywhere(t *testing.T) {
	key := volumeKey(t, "data")
	a, b := commitCID(t, 1), commitCID(t, 2)
	if bytes.Compare(a.Bytes(), b.Bytes()) > 0 {
		a, b = b, a
	}
	forked := func(c cid.Cid, sequence uint64, of cid.Cid, at uint64) Head {
		return must(SignCommit(key, c, &snapshot.Commit{Sequence: sequence, Time: made, Fork: snapshot.State{CID: of, Sequence: at}}))(t)
	}
	heads := []Head{
		must(Sign(key, b, 4, made.Add(time.Hour)))(t), must(Sign(key, a, 4, made))(t),
		forked(a, 7, a, 4), forked(b, 8, a, 4),
		must(Sign(key, b, 5, made))(t), forked(a, 6, b, 5), must(Sign(key, a, 5, made.Add(-time.Hour)))(t), forked(b, 6, a, 5),
	}
	for i, h := range heads {
		for j, o := range heads {
			if Compare(h, o) != cmp.Compare(i, j) {
				t.Errorf("heads %d and %d compare as %d", i, j, Compare(h, o))
			}
		}
	}
}

func stored(t *testing.T, b snapshot.Blocks, c *snapshot.Commit) cid.Cid {
	t.Helper()
	blk := must(snapshot.EncodeCommit(c))(t)
	if err := b.Put(t.Context(), blk); err != nil {
		t.Fatal(err)
	}
	return blk.Cid()
}

func TestCommitOfAHeadMustBeTheOneItMeans(t *testing.T) {
	b := blockstest.NewMemory()
	key := volumeKey(t, "data")
	volume := must(namespace.NameOf(key))(t).String()
	commit := func(volume string, sequence uint64) cid.Cid {
		return stored(t, b, &snapshot.Commit{Tree: commitCID(t, 1), Volume: volume, Sequence: sequence, Time: made, Consistency: snapshot.Clean})
	}
	for what, tc := range map[string]struct {
		commit cid.Cid
		want   error
	}{
		"its own":          {commit(volume, 1), nil},
		"another sequence": {commit(volume, 2), ErrFormat},
		"another volume":   {commit("k51", 1), ErrFormat},
		"no volume":        {commit("", 1), ErrFormat},
	} {
		h := must(Sign(key, tc.commit, 1, made))(t)
		if _, err := h.Open(must(b.Get(t.Context(), tc.commit))(t)); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	child := &snapshot.Commit{Tree: commitCID(t, 1), Volume: volume, Fork: forkOf(t, 1, 1), Time: made, Consistency: snapshot.Clean}
	if err := snapshot.Extend(t.Context(), b, child, commit(volume, 1)); err != nil {
		t.Fatal(err)
	}
	fork := stored(t, b, child)
	blk := must(b.Get(t.Context(), fork))(t)
	if _, err := must(SignCommit(key, fork, child))(t).Open(blk); err != nil {
		t.Errorf("a fork: %v", err)
	}
	if _, err := must(Sign(key, fork, 2, made))(t).Open(blk); !errors.Is(err, ErrFormat) {
		t.Errorf("a fork that its head does not say to be one: %v", err)
	}
	if _, err := sample(t).Open(must(b.Get(t.Context(), commit(volume, 1)))(t)); !errors.Is(err, ErrFormat) {
		t.Errorf("another block: %v", err)
	}
}

func TestTombstoneIsTheNextCommitWithNothingInIt(t *testing.T) {
	b := blockstest.NewMemory()
	key := volumeKey(t, "data")
	volume := must(namespace.NameOf(key))(t).String()
	last := &snapshot.Commit{Tree: commitCID(t, 1), Volume: volume, Sequence: 7, Time: made, Consistency: snapshot.Clean}
	h := must(Sign(key, stored(t, b, last), 7, made))(t)
	c := must(h.Tombstone(t.Context(), b))(t)
	end := must(Sign(key, stored(t, b, c), c.Sequence, c.Time))(t)
	got := must(end.Open(must(b.Get(t.Context(), end.Commit))(t)))(t)
	if !IsTombstone(got) || got.Sequence != 8 || !slices.Equal(got.Parents, []cid.Cid{h.Commit}) {
		t.Errorf("%+v", got)
	}
	if Compare(end, h) <= 0 {
		t.Error("an older head brings the volume back")
	}
	if IsTombstone(last) || IsTombstone(&snapshot.Commit{Labels: map[string]string{LabelRemoved: ""}}) {
		t.Error("what ends no volume is taken for a tombstone")
	}
	// The empty tree has the CID that every IPFS program gives it.
	if want := "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"; c.Tree.String() != want {
		t.Errorf("tree %s, want %s", c.Tree, want)
	}
}

func FuzzHeadReencodesToTheSameBytes(f *testing.F) {
	key := volumeKey(f, "data")
	h := sample(f)
	f.Add(h.Record)
	f.Add(sampleFork(f).Record)
	f.Add(must(Sign(key, commitCID(f, 2), 1, time.Unix(0, 0)))(f).Record)
	f.Fuzz(func(t *testing.T, record []byte) {
		_, err := Verify(h.Volume, record)
		if errors.Is(err, ErrFormat) {
			return
		}
		if err != nil && !errors.Is(err, ErrSignature) {
			t.Fatalf("refused with %v", err)
		}
		read := must(contents(h.Volume, must(ipns.UnmarshalRecord(record))(t)))(t)
		if again := must(read.encode(record))(t); !bytes.Equal(again, record) {
			t.Fatal("what was read is written otherwise")
		}
		// Signed, it would be a head.
		var signed pb.IpnsRecord
		if err := proto.Unmarshal(record, &signed); err != nil {
			t.Fatal(err)
		}
		signed.SignatureV2 = must(key.Sign(append([]byte("ipns-signature:"), signed.Data...)))(t)
		record = must(proto.Marshal(&signed))(t)
		if _, err := Verify(h.Volume, record); len(record) <= MaxRecord && err != nil {
			t.Fatal(strings.TrimSpace(err.Error()))
		}
	})
}
