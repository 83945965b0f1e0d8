package trustless

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/ipfs/boxo/ipns"
)

// Records returns the IPNS record of a name, and an error that wraps fs.ErrNotExist if there is none to be served.
type Records func(ctx context.Context, name ipns.Name) ([]byte, error)

const (
	recordType   = "application/vnd.ipfs.ipns-record"
	recordFormat = "ipns-record"
	// recordCache is how long whoever asks may take a record for the newest, in seconds; that of a head says the same.
	recordCache = 60
)

// serve answers GET and HEAD of /ipns/NAME with the record.
func (records Records) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	if r.URL.Query().Get("format") != recordFormat && !strings.Contains(r.Header.Get("Accept"), recordType) {
		http.Error(w, "only records are served, as "+recordType, http.StatusNotAcceptable)
		return
	}
	name, err := ipns.NameFromString(r.PathValue("name"))
	if err != nil {
		http.Error(w, "not an IPNS name", http.StatusBadRequest)
		return
	}
	record, err := records(r.Context(), name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		http.Error(w, "no record of that name", http.StatusNotFound)
		return
	case err != nil:
		http.Error(w, "the record cannot be read", http.StatusInternalServerError)
		return
	}
	etag := fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(record)))
	h := w.Header()
	h.Set("Content-Type", recordType)
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", recordCache))
	h.Set("Etag", etag)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name.String()+".ipns-record"))
	if strings.Contains(r.Header.Get("If-None-Match"), etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", fmt.Sprint(len(record)))
	if r.Method == http.MethodGet {
		w.Write(record)
	}
}
