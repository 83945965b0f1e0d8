package exchange

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s changed:\n%x\nwas\n%x", name, got, want)
	}
}

func TestRequestsAndAnswersStayAsTheyAre(t *testing.T) {
	bs := []string{"one", "", "three"}
	var cs []cid.Cid
	var answer []byte
	for i, data := range bs {
		cs = append(cs, blockstest.Raw([]byte(data)).Cid())
		answer = appendHeader(answer, len(data), i != 0)
		if i != 0 {
			answer = append(answer, data...)
		}
	}
	golden(t, "request.bin", encodeRequest(cs))
	golden(t, "answer.bin", answer)
	golden(t, "lane.bin", append(encodeLaneRequest(cs), append(answer, endOfAnswer...)...))
	got, err := readRequest(bufio.NewReader(bytes.NewReader(encodeRequest(cs))))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(cs, got, cmp.Comparer(cid.Cid.Equals)); diff != "" {
		t.Error(diff)
	}
	in := bytes.NewReader(answer)
	for i, data := range bs {
		n, there, err := readHeader(in)
		if err != nil || there != (i != 0) || there && n != len(data) {
			t.Fatalf("answer %d: %d, %v, %v", i, n, there, err)
		}
		if _, err := in.Seek(int64(n), io.SeekCurrent); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := readHeader(in); err != io.EOF {
		t.Fatalf("after the last: %v", err)
	}
}

func FuzzRequestReencodesToTheSame(f *testing.F) {
	f.Add(encodeRequest([]cid.Cid{blockstest.Raw([]byte("one")).Cid(), blockstest.Raw(nil).Cid()}))
	f.Add([]byte{1, 0x24})
	f.Fuzz(func(t *testing.T, data []byte) {
		cs, err := readRequest(bufio.NewReader(bytes.NewReader(data)))
		if err != nil {
			return
		}
		if len(cs) == 0 || len(cs) > maxAsked {
			t.Fatalf("%d CIDs", len(cs))
		}
		if again := encodeRequest(cs); !bytes.Equal(again, data) {
			t.Fatalf("%x was read, and is %x", data, again)
		}
	})
}

func FuzzLaneRequestReencodesToTheSame(f *testing.F) {
	f.Add(encodeLaneRequest([]cid.Cid{blockstest.Raw([]byte("one")).Cid()}))
	f.Add([]byte{2, 1, 0x24})
	f.Fuzz(func(t *testing.T, data []byte) {
		in := bytes.NewReader(data)
		cs, err := readLaneRequest(bufio.NewReader(in))
		if err != nil {
			return
		}
		if again := encodeLaneRequest(cs); !bytes.HasPrefix(data, again) {
			t.Fatalf("%x was read, and is %x", data, again)
		}
	})
}

func FuzzAnswerHeader(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0, 0x20, 0, 1})
	f.Add([]byte{0, 0x20, 0, 2})
	f.Add(endOfAnswer)
	f.Fuzz(func(t *testing.T, data []byte) {
		n, there, err := readHeader(bytes.NewReader(data))
		switch {
		case err == errEnd:
			if !bytes.HasPrefix(data, endOfAnswer) {
				t.Fatalf("%x is an end", data)
			}
		case err != nil:
			if len(data) >= headerSize && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
				t.Fatal(err)
			}
		case n > snapshot.MaxBlockSize:
			t.Fatalf("a block of %d bytes", n)
		default:
			if again := appendHeader(nil, n, there); !bytes.Equal(again, data[:headerSize]) {
				t.Fatalf("%x was read, and is %x", data, again)
			}
		}
	})
}
