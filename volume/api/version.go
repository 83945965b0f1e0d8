package api

import (
	"fmt"
	"net/http"
	"strconv"
)

// Version is the major version of the API that this package speaks, as server and as client. Within one
// version routes and fields are only added.
const Version = 1

const (
	prefix        = "/v1"
	versionHeader = "Volary-Api"
	sessionHeader = "Volary-Session"
	localHeader   = "Volary-Local" // with any value: blocks that are not here are not got from elsewhere
)

type versionJSON struct {
	API     int    `json:"api"`
	Version string `json:"version"` // of the program
}

// checkServer compares the version a server has named with the client's own.
func checkServer(server int) error {
	switch {
	case server > Version:
		return fmt.Errorf("the daemon speaks API version %d, this program %d: %w\nupgrade this program", server, Version, ErrVersion)
	case server < Version:
		return fmt.Errorf("the daemon speaks API version %d, this program %d: %w\nupgrade the daemon, or restart it if it is an old one still running", server, Version, ErrVersion)
	}
	return nil
}

// checkClient refuses a request that names another version. One that names none, such as curl's, is held to
// its path.
func checkClient(r *http.Request) error {
	h := r.Header.Get(versionHeader)
	if h == "" {
		return nil
	}
	client, err := strconv.Atoi(h)
	if err != nil {
		return fmt.Errorf("%s header %q is no number: %w", versionHeader, h, ErrRequest)
	}
	switch {
	case client > Version:
		return fmt.Errorf("the client speaks API version %d, this daemon %d: %w\nupgrade the daemon, or restart it if it is an old one still running", client, Version, ErrVersion)
	case client < Version:
		return fmt.Errorf("the client speaks API version %d, this daemon %d: %w\nupgrade the client", client, Version, ErrVersion)
	}
	return nil
}
