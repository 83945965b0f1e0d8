package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/ipfs/boxo/ipns"

	"github.com/volary/volary/snapshot"
)

// RecordType is the media type of an IPNS record.
const RecordType = "application/vnd.ipfs.ipns-record"

// Record gets the newest valid IPNS record of a name that any of the gateways has: all are asked. It is signed by the
// name, and not expired by this machine's clock. What none has is a [snapshot.ErrNotFetched], which says what each said.
func (g *Gateways) Record(ctx context.Context, name ipns.Name) ([]byte, error) {
	type answer struct {
		record []byte
		err    error
	}
	answers := make(chan answer, len(g.all))
	for _, gw := range g.all {
		go func() {
			record, err := g.recordFrom(ctx, gw, name)
			if err != nil {
				err = fmt.Errorf("%s: %w", gw.name, err)
			}
			answers <- answer{record, err}
		}()
	}
	var newest []byte
	var said []string
	for range g.all {
		switch a := <-answers; {
		case a.err != nil:
			said = append(said, a.err.Error())
		case newest == nil || sequenceOf(a.record) > sequenceOf(newest):
			newest = a.record
		}
	}
	switch {
	case newest != nil:
		return newest, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("get the record of %s: %w", name, ctx.Err())
	case len(said) == 0:
		said = append(said, "there is no gateway")
	}
	return nil, &noRecord{name, said}
}

// noRecord is an [snapshot.ErrNotFetched] that says what each gateway said.
type noRecord struct {
	name ipns.Name
	said []string
}

func (e *noRecord) Error() string {
	return fmt.Sprintf("no gateway has a record of /ipns/%s: %s\nof a volume there is one if it has the option publish=true", e.name, strings.Join(e.said, "; "))
}

func (e *noRecord) Unwrap() error { return snapshot.ErrNotFetched }

// sequenceOf is of a record that was checked.
func sequenceOf(record []byte) uint64 {
	r, err := ipns.UnmarshalRecord(record)
	if err != nil {
		return 0
	}
	n, _ := r.Sequence()
	return n
}

func (g *Gateways) recordFrom(ctx context.Context, gw *gateway, name ipns.Name) ([]byte, error) {
	ctx, done := context.WithTimeout(ctx, g.o.Timeout)
	defer done()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, gw.base+"/ipns/"+name.String()+"?format=ipns-record", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", RecordType)
	res, err := g.client.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusNotFound:
		return nil, errors.New("it has no record of that name")
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("it answered %s", res.Status)
	}
	data, err := readUpTo(res.Body, ipns.MaxRecordSize, 1<<10)
	if err != nil {
		return nil, withoutURL(err)
	}
	r, err := ipns.UnmarshalRecord(data)
	if err == nil {
		err = ipns.ValidateWithName(r, name)
	}
	if err != nil {
		line, _, _ := strings.Cut(err.Error(), "\n")
		return nil, errors.New("its record does not count: " + line)
	}
	return data, nil
}
