package api

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/iotest"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/importer"
)

// refused tells whether an error is one of those that bad bytes are answered with.
func refused(err error) bool { return errors.Is(err, ErrRequest) || errors.Is(err, ErrTooLarge) }

func FuzzBlocksReadAreWrittenTheSame(f *testing.F) {
	for _, bs := range [][]byte{nil, body(f, 0), body(f, 1, 2, 3), body(f, 300<<10), body(f, 10)[:20], {0xff, 0xff, 0xff}, {0x80, 0x00}} {
		f.Add(bs)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := newBlockReader(iotest.OneByteReader(bytes.NewReader(data)))
		var again []byte
		for {
			bs, err := in.batch()
			if err == io.EOF {
				break
			}
			if err != nil {
				if !refused(err) {
					t.Fatalf("refused with %v", err)
				}
				return
			}
			for _, b := range bs {
				again = append(appendHeader(again, b), b.RawData()...)
			}
		}
		if !bytes.Equal(again, data) {
			t.Fatalf("%x was read and written as %x", data, again)
		}
	})
}

func FuzzAnswersReadAreWrittenTheSame(f *testing.F) {
	for _, answer := range []string{"", "\x00\x00", "\x00\x03abc\x02{}", "\x00\x03ab", "\x02{", "\xff\xff\x7f", "\x00\xff\xff\xff\x7f"} {
		f.Add([]byte(answer))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := newFrameReader(iotest.OneByteReader(bytes.NewReader(data)), -1)
		var again []byte
		for {
			failure, block, err := in.got()
			if err == io.EOF {
				break
			}
			if err != nil {
				if !refused(err) {
					t.Fatalf("refused with %v", err)
				}
				return
			}
			if again = appendString(again, failure); failure == nil {
				again = appendString(again, block)
			}
		}
		if !bytes.Equal(again, data) {
			t.Fatalf("%x was read and written as %x", data, again)
		}
	})
}

func FuzzSizesReadAreWrittenTheSame(f *testing.F) {
	for _, answer := range []string{"", "\x00\x00", "\x00\x03\x02{}", "\x00", "\x02{", "\xff\xff\x7f", "\x00\xff\xff\xff\x7f", "\x00\x80\x00"} {
		f.Add([]byte(answer))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := newFrameReader(iotest.OneByteReader(bytes.NewReader(data)), -1)
		var again []byte
		for {
			failure, size, err := in.brought()
			if err == io.EOF {
				break
			}
			if err != nil {
				if !refused(err) {
					t.Fatalf("refused with %v", err)
				}
				return
			}
			if failure != nil {
				again = appendString(again, failure)
			} else {
				again = appendUvarint(append(again, 0), size)
			}
		}
		if !bytes.Equal(again, data) {
			t.Fatalf("%x was read and written as %x", data, again)
		}
	})
}

func FuzzStatRecordsReadAreWrittenTheSame(f *testing.F) {
	root := blockstest.Raw([]byte("root")).Cid()
	f.Add(appendRecord(nil, importer.StatRecord{}))
	f.Add(appendRecord(nil, importer.StatRecord{Key: []byte("k"), Value: []byte("v"), Roots: []cid.Cid{root, root}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		in := newFrameReader(bytes.NewReader(data), -1)
		var again []byte
		for {
			r, err := in.record()
			if err == io.EOF {
				break
			}
			if err != nil {
				if !refused(err) {
					t.Fatalf("refused with %v", err)
				}
				return
			}
			again = appendRecord(again, r)
		}
		if !bytes.Equal(again, data) {
			t.Fatalf("%x was read and written as %x", data, again)
		}
	})
}

// body is a body of blocks of these sizes.
func body(t testing.TB, sizes ...int) []byte {
	t.Helper()
	var b []byte
	for i, size := range sizes {
		blk := blockstest.Random(uint64(i), 1, size)[0]
		b = append(appendHeader(b, blk), blk.RawData()...)
	}
	return b
}

func TestBlockReaderKeepsToItsMemory(t *testing.T) {
	bs := blockstest.Random(1, 3*arenaBlocks, 10)
	bs = append(bs, blockstest.Random(2, 5, snapshot.MaxBlockSize)...)
	bs = append(bs, blockstest.Random(3, 40, 200<<10)...)
	in := newBlockReader(&blockBody{blocks: bs})
	for len(bs) > 0 {
		got, err := in.batch()
		if err != nil {
			t.Fatal(err)
		}
		size := 0
		for i, b := range got {
			if b.Cid() != bs[i].Cid() || !bytes.Equal(b.RawData(), bs[i].RawData()) {
				t.Fatalf("read %s, want %s", b.Cid(), bs[i].Cid())
			}
			size += len(b.RawData())
		}
		if len(got) == 0 || len(got) > arenaBlocks || size > arenaSize {
			t.Fatalf("%d blocks of %d bytes at a time", len(got), size)
		}
		bs = bs[len(got):]
	}
	if _, err := in.batch(); err != io.EOF {
		t.Errorf("after the last block: %v", err)
	}
}

func TestBlocksThatProveNothingAreRefused(t *testing.T) {
	data := []byte("data")
	short, err := mh.Sum(data, mh.SHA2_256, 4)
	if err != nil {
		t.Fatal(err)
	}
	unknown, err := mh.Encode(make([]byte, 32), 0x7777)
	if err != nil {
		t.Fatal(err)
	}
	wrong := blockstest.Raw([]byte("other")).Cid()
	for name, c := range map[string]struct {
		cid  cid.Cid
		want error
	}{
		"short digest": {cid.NewCidV1(cid.Raw, short), snapshot.ErrFormat},
		"unknown hash": {cid.NewCidV1(cid.Raw, unknown), snapshot.ErrFormat},
		"wrong bytes":  {wrong, snapshot.ErrFormat},
	} {
		err := checkStranger(newTestBlock(t, data, c.cid))
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if status, _ := newErrorTable(nil).encode(err); status != http.StatusBadRequest {
			t.Errorf("%s: status %d", name, status)
		}
	}
	if err := checkStranger(blockstest.Raw(data)); err != nil {
		t.Error(err)
	}
}
