package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"
)

// output prints a verb's results: as JSON, one object a line, or as text.
type output struct {
	w    io.Writer
	json bool
}

func outputOf(c *cli.Context) output { return output{w: c.App.Writer, json: c.Bool("json")} }

// sink is standard output. It remembers the first error, so that no verb can forget it: run looks at the end.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.w.Write(p)
	if err != nil {
		s.err = fmt.Errorf("write output: %w", err)
	}
	return n, s.err
}

// object prints v as JSON, or as whatever text prints.
func (o output) object(v any, text func(w io.Writer)) error {
	if !o.json {
		text(o.w)
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	_, err = fmt.Fprintf(o.w, "%s\n", b)
	return err
}

// line prints v as JSON or a line of text.
func (o output) line(v any, format string, args ...any) error {
	return o.object(v, func(w io.Writer) { fmt.Fprintf(w, format+"\n", args...) })
}

// columns aligns lines whose fields are separated by tabs.
func columns(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

func bytesText(n uint64) string { return humanize.IBytes(n) }

func timeText(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// quote makes a name safe for a terminal and a line of text: what is printable stays as it is.
func quote(name string) string {
	q := fmt.Sprintf("%q", name)
	if q[1:len(q)-1] == name {
		return name
	}
	return q
}

// jsonName is a name in JSON: names are byte strings, and JSON has only text, so what is not UTF-8 is escaped
// as in a Go string.
func jsonName(name string) string {
	if strings.ToValidUTF8(name, "") == name {
		return name
	}
	q := fmt.Sprintf("%q", name)
	return q[1 : len(q)-1]
}
