//go:build real

package volary_test

import (
	"debug/elf"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ours are what is installed, below a prefix.
var ours = map[string]fs.FileMode{
	"bin/volary": 0o755,
	"lib/systemd/system/volary-holder.service": 0o644,
	"lib/systemd/system/volary.service":        0o644,
	"share/bash-completion/completions/volary": 0o644,
	"share/zsh/site-functions/_volary":         0o644,
}

// foreign is a file of somebody else's.
const foreign = "lib/systemd/system/other.service"

func TestWhatIsInstalledIsUninstalledAndNothingElse(t *testing.T) {
	stage := t.TempDir()
	prefix := filepath.Join(stage, "opt/here")
	if err := os.MkdirAll(filepath.Join(prefix, filepath.Dir(foreign)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(prefix, foreign), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	make := func(target string) {
		t.Helper()
		// The program is the one that make test has built.
		run(t, nil, "make", "-o", "build", "DESTDIR="+stage, "PREFIX=/opt/here", target)
	}
	with := map[string]fs.FileMode{foreign: 0o600}
	for name, mode := range ours {
		with[name] = mode
	}
	for range 2 {
		make("install")
		if diff := cmp.Diff(with, files(t, prefix)); diff != "" {
			t.Fatalf("installed, -want +got:\n%s", diff)
		}
	}
	for name := range ours {
		b, err := os.ReadFile(filepath.Join(prefix, name))
		if err != nil || len(b) == 0 {
			t.Errorf("%s has %d bytes, %v", name, len(b), err)
		}
		if strings.HasSuffix(name, ".service") && !strings.Contains(string(b), "=/opt/here/bin/volary ") {
			t.Errorf("%s does not start what was installed:\n%s", name, b)
		}
	}
	for range 2 {
		make("uninstall")
		if diff := cmp.Diff(map[string]fs.FileMode{foreign: 0o600}, files(t, prefix)); diff != "" {
			t.Fatalf("uninstalled, -want +got:\n%s", diff)
		}
	}
}

func TestSystemdUnderstandsTheUnits(t *testing.T) {
	prefix := t.TempDir()
	run(t, nil, "make", "-o", "build", "PREFIX="+prefix, "install")
	units := filepath.Join(prefix, "lib/systemd/system")
	verify := func() string {
		out, _ := try(t, []string{"SYSTEMD_UNIT_PATH=" + units + ":"}, "systemd-analyze", "verify", "--man=no", "volary.service", "volary-holder.service")
		return out
	}
	if out := verify(); out != "" {
		t.Errorf("systemd-analyze says:\n%s", out)
	}
	unit := filepath.Join(units, "volary.service")
	b, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{"KillMode=whatever", "Nonsense=1"} {
		if err := os.WriteFile(unit, []byte(strings.Replace(string(b), "KillMode=process", wrong, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		if out := verify(); !strings.Contains(out, "volary.service:") {
			t.Errorf("with %s systemd-analyze says: %q", wrong, out)
		}
	}
	// With a mount namespace of its own nobody would see its mounts.
	for _, word := range []string{"Private", "Protect", "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "RootDirectory", "TemporaryFileSystem", "MountFlags", "DynamicUser", "NoExecPaths"} {
		if strings.Contains(string(b), "\n"+word) {
			t.Errorf("volary.service has %s…", word)
		}
	}
}

func TestTheProgramNeedsNoLibrary(t *testing.T) {
	f, err := elf.Open("bin/volary")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if err != nil || len(libraries) > 0 {
		t.Errorf("it needs %q, %v", libraries, err)
	}
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Error("it needs the dynamic linker")
	}
}

func run(t *testing.T, env []string, command ...string) string {
	t.Helper()
	out, err := try(t, env, command...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return out
}

func try(t *testing.T, env []string, command ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Env = append(os.Environ(), env...)
	// Of a make that has started this.
	cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool {
		return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS=") || strings.HasPrefix(v, "DESTDIR=")
	})
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// files are those below a directory, with their modes.
func files(t *testing.T, dir string) map[string]fs.FileMode {
	t.Helper()
	found := map[string]fs.FileMode{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		found[rel] = info.Mode()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
