package main

import (
	"errors"
	"io/fs"
	"testing"
)

func TestOnlyRootServesDocker(t *testing.T) {
	if err := mayServeDocker("/run/docker/plugins/volary.sock", 1000); !errors.Is(err, fs.ErrPermission) || exitCode(err) != exitDenied {
		t.Errorf("somebody else: %v", err)
	}
	for _, err := range []error{mayServeDocker("/run/docker/plugins/volary.sock", 0), mayServeDocker("", 1000)} {
		if err != nil {
			t.Error(err)
		}
	}
}
