package importer

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const maxIgnoreFile = 1 << 20 // bytes

// rules say what to leave out: the patterns of ignore files, the later ones first to be heard, and above all
// those that the user gave.
type rules struct {
	above []pattern
	files []pattern
}

// pattern is a line of gitignore(5).
type pattern struct {
	dir      string   // where the file with the pattern is; names below it are matched
	segments []string // of the path; "**" for any number
	anchored bool     // matches from dir on, not at any depth
	dirOnly  bool
	keep     bool // "!": what it matches is not left out
}

func baseRules(o Options) (rules, error) {
	var r rules
	for _, line := range o.Exclude {
		p, ok, err := parsePattern("", line)
		if err != nil {
			return r, fmt.Errorf("exclude: %w", err)
		}
		if ok {
			r.above = append(r.above, p)
		}
	}
	for _, name := range o.ExcludeFiles {
		b, err := os.ReadFile(name)
		if err != nil {
			return r, fmt.Errorf("exclude: %w", err)
		}
		if r.files, err = appendPatterns(r.files, "", string(b)); err != nil {
			return r, fmt.Errorf("exclude: %s: %w", name, err)
		}
	}
	return r, nil
}

// CheckPattern says whether a pattern is one that Options.Exclude can have.
func CheckPattern(p string) error {
	_, _, err := parsePattern("", p)
	return err
}

func (r rules) empty() bool { return len(r.above)+len(r.files) == 0 }

// excludes reports whether the entry of a directory is left out. The last pattern that matches decides.
func (r rules) excludes(dir, name string, isDir bool) bool {
	for _, ps := range [][]pattern{r.above, r.files} {
		for _, p := range slices.Backward(ps) {
			if p.matches(dir, name, isDir) {
				return !p.keep
			}
		}
	}
	return false
}

func appendPatterns(ps []pattern, dir, text string) ([]pattern, error) {
	ps = slices.Clip(ps)
	for i, line := range strings.Split(text, "\n") {
		p, ok, err := parsePattern(dir, strings.TrimSuffix(line, "\r"))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		if ok {
			ps = append(ps, p)
		}
	}
	return ps, nil
}

// parsePattern reads a line; false if there is no pattern in it.
func parsePattern(dir, line string) (pattern, bool, error) {
	p := pattern{dir: dir}
	if strings.HasPrefix(line, "#") {
		return p, false, nil
	}
	for strings.HasSuffix(line, " ") && !strings.HasSuffix(line, `\ `) {
		line = line[:len(line)-1]
	}
	line, p.keep = strings.CutPrefix(line, "!")
	line, p.dirOnly = strings.CutSuffix(line, "/")
	p.anchored = strings.Contains(line, "/")
	line = strings.TrimPrefix(line, "/")
	if line == "" {
		return p, false, nil
	}
	p.segments = strings.Split(line, "/")
	for i, s := range p.segments {
		s = strings.ReplaceAll(s, "[!", "[^")
		if _, err := path.Match(s, ""); err != nil {
			return p, false, fmt.Errorf("pattern %q: %w", line, err)
		}
		p.segments[i] = s
	}
	return p, true, nil
}

func (p pattern) matches(dir, name string, isDir bool) bool {
	if p.dirOnly && !isDir {
		return false
	}
	if !p.anchored {
		return p.below(dir) && match(p.segments[0], name)
	}
	if !p.below(dir) {
		return false
	}
	rel := strings.TrimPrefix(dir[len(p.dir):], "/")
	var names []string
	if rel != "" {
		names = strings.Split(rel, "/")
	}
	return matchAll(p.segments, append(names, name))
}

func (p pattern) below(dir string) bool {
	return p.dir == "" || dir == p.dir || strings.HasPrefix(dir, p.dir) && dir[len(p.dir)] == '/'
}

func match(segment, name string) bool {
	ok, err := path.Match(segment, name)
	return ok && err == nil
}

// matchAll matches names against segments. A last "**" takes one name or more, another "**" any number.
func matchAll(segments, names []string) bool {
	for len(segments) > 0 {
		if segments[0] == "**" {
			if len(segments) == 1 {
				return len(names) > 0
			}
			for i := range names {
				if matchAll(segments[1:], names[i:]) {
					return true
				}
			}
			return false
		}
		if len(names) == 0 || !match(segments[0], names[0]) {
			return false
		}
		segments, names = segments[1:], names[1:]
	}
	return len(names) == 0
}

// readIgnoreFile adds the patterns of the ignore file in a directory to its rules.
func (w *worker) readIgnoreFile(d *dir) error {
	fd, err := unix.Openat(d.fd, DefaultIgnoreFile, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return d.fault("open", DefaultIgnoreFile, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return d.fault("stat", DefaultIgnoreFile, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxIgnoreFile {
		return d.fault("read", DefaultIgnoreFile, errors.New("an ignore file is a regular file of at most 1 MiB"))
	}
	buf := make([]byte, maxIgnoreFile)
	n, err := pread(fd, buf, 0)
	if err != nil {
		return d.fault("read", DefaultIgnoreFile, err)
	}
	var base []pattern
	if d.parent != nil {
		base = d.parent.rules.files
	} else {
		base = d.rules.files
	}
	files, err := appendPatterns(base, d.path(), string(buf[:n]))
	if err != nil {
		return d.fault("read", DefaultIgnoreFile, err)
	}
	d.rules.files = files
	return nil
}
