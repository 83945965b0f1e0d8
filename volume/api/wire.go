package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/snapshot"
)

// text is a string whose bytes survive JSON: what is not UTF-8 becomes {"base64": "..."}.
type text string

type base64JSON struct {
	Base64 []byte `json:"base64"`
}

func (t text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal(base64JSON{[]byte(t)})
}

func (t *text) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
		var j base64JSON
		if err := unmarshal(b, &j); err != nil {
			return err
		}
		*t = text(j.Base64)
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	*t = text(s)
	return nil
}

type pinJSON struct {
	Root    string          `json:"root"`
	Owner   string          `json:"owner,omitempty"`
	Name    text            `json:"name,omitempty"`
	Meta    map[string]text `json:"meta,omitempty"`
	Created time.Time       `json:"created,omitzero"`
}

type statusJSON struct {
	State pinset.State `json:"state"`
	Pin   *pinJSON     `json:"pin,omitempty"` // one of Pins, people's if there is one
	Pins  []pinJSON    `json:"pins,omitempty"`

	// Of a cluster's pins.
	Min      int           `json:"min,omitempty"`
	Max      int           `json:"max,omitempty"`
	Replicas []replicaJSON `json:"replicas,omitempty"`
}

type replicaJSON struct {
	Peer     string    `json:"peer"`
	Name     text      `json:"name,omitempty"`
	Pinned   bool      `json:"pinned"`
	State    string    `json:"state"`
	Error    text      `json:"error,omitempty"`
	Since    time.Time `json:"since,omitzero"`
	Attempts int       `json:"attempts,omitempty"`
}

// waitedJSON is how far a wait has come.
type waitedJSON struct {
	Root string `json:"root"`
	statusJSON
}

// heldJSON is how often a root is held.
type heldJSON struct {
	Root  string       `json:"root"`
	State pinset.State `json:"state"`
	Have  int          `json:"have"`
	Min   int          `json:"min"`
	Max   int          `json:"max"`
}

type waitingJSON struct {
	Op       string    `json:"op"`
	Root     string    `json:"root"`
	Owner    string    `json:"owner,omitempty"`
	Since    time.Time `json:"since,omitzero"`
	Attempts int       `json:"attempts,omitempty"`
	Error    string    `json:"last_error,omitempty"` // "error" is of a stream that breaks off
	Next     time.Time `json:"next,omitzero"`
}

func statusToWire(st pinset.Status) (statusJSON, error) {
	j := statusJSON{State: st.State, Min: st.Min, Max: st.Max}
	for _, p := range st.Pins {
		one, err := pinToWire(p)
		if err != nil {
			return j, err
		}
		if j.Pins = append(j.Pins, one); j.Pin == nil || one.Owner == "" {
			j.Pin = &one
		}
	}
	for _, r := range st.Replicas {
		j.Replicas = append(j.Replicas, replicaJSON{r.Peer, text(r.Name), r.Pinned, r.State, text(r.Error), r.Since, r.Attempts})
	}
	return j, nil
}

func statusFromWire(j statusJSON) (pinset.Status, error) {
	st := pinset.Status{State: j.State, Min: j.Min, Max: j.Max}
	for _, one := range j.Pins {
		p, err := pinFromWire(one)
		if err != nil {
			return st, err
		}
		st.Pins = append(st.Pins, p)
	}
	for _, r := range j.Replicas {
		st.Replicas = append(st.Replicas, pinset.Replica{
			Peer: r.Peer, Name: string(r.Name), Pinned: r.Pinned, State: r.State, Error: string(r.Error), Since: r.Since, Attempts: r.Attempts,
		})
	}
	return st, nil
}

type tagJSON struct {
	Name text   `json:"name"`
	Root string `json:"root"`
}

type ownJSON struct {
	Own bool `json:"own"`
}

type sessionJSON struct {
	Session string `json:"session"`
}

func pinToWire(p pinset.Pin) (pinJSON, error) {
	j := pinJSON{Root: p.Root.String(), Owner: p.Owner, Name: text(p.Name), Created: p.Created}
	for k, v := range p.Meta {
		if !utf8.ValidString(k) {
			return j, fmt.Errorf("pin of %s: key %q is not UTF-8: %w", p.Root, k, snapshot.ErrFormat)
		}
		if j.Meta == nil {
			j.Meta = make(map[string]text, len(p.Meta))
		}
		j.Meta[k] = text(v)
	}
	return j, nil
}

func pinFromWire(j pinJSON) (pinset.Pin, error) {
	root, err := parseCID(j.Root)
	if err != nil {
		return pinset.Pin{}, err
	}
	return pinset.Pin{Root: root, Owner: j.Owner, Name: string(j.Name), Meta: metaFromWire(j.Meta), Created: j.Created}, nil
}

func metaFromWire(m map[string]text) map[string]string {
	if m == nil {
		return nil
	}
	meta := make(map[string]string, len(m))
	for k, v := range m {
		meta[k] = string(v)
	}
	return meta
}
