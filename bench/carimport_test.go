package main

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"
)

func TestASplitCARHasEverySectionOnce(t *testing.T) {
	c := &carImport{dir: t.TempDir()}
	head, car := []byte("\x04head"), bytes.NewBufferString("\x04head")
	for i := range 40 {
		car.Write(binary.AppendUvarint(nil, 1<<20))
		car.Write(bytes.Repeat([]byte{byte(i)}, 1<<20))
	}
	if err := c.split(car); err != nil {
		t.Fatal(err)
	}
	seen := map[byte]int{}
	for n := range carStreams {
		text, err := os.ReadFile(c.file(n))
		if err != nil {
			t.Fatal(err)
		}
		rest, found := bytes.CutPrefix(text, head)
		if !found || len(rest) == 0 {
			t.Fatalf("file %d has no header, or nothing else", n)
		}
		for len(rest) > 0 {
			size, used := binary.Uvarint(rest)
			section := rest[used : used+int(size)]
			if size != 1<<20 || section[0] != section[size-1] {
				t.Fatalf("file %d has a section of %d bytes that is not one", n, size)
			}
			seen[section[0]]++
			rest = rest[used+int(size):]
		}
	}
	for i := range 40 {
		if seen[byte(i)] != 1 {
			t.Errorf("section %d is there %d times", i, seen[byte(i)])
		}
	}
	if err := c.split(bytes.NewBufferString("\x04head\x05cut")); err == nil {
		t.Error("a CAR that ends in a section is split")
	}
}
