package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// writeReport writes dir/DATE-COMMIT.md: what ran, where, and what each test logged.
func writeReport(dir string, args []string, s summary) error {
	commit, err := firstLine("git", "rev-parse", "--short=12", "HEAD")
	if err != nil {
		return fmt.Errorf("name the report: %w", err)
	}
	changed, err := firstLine("git", "status", "--porcelain")
	if err != nil {
		return fmt.Errorf("name the report: %w", err)
	}
	if changed != "" {
		commit += "-changed"
	}
	kernel, err := firstLine("uname", "-srm")
	if err != nil {
		return fmt.Errorf("describe the machine: %w", err)
	}

	now := time.Now().UTC()
	var b strings.Builder
	fmt.Fprintf(&b, "# go test %s\n\n", strings.Join(args, " "))
	fmt.Fprintf(&b, "%s, commit %s, %s, %s, %d cores\n", now.Format("2006-01-02 15:04 MST"), commit, runtime.Version(), kernel, runtime.NumCPU())
	for _, part := range []struct {
		verdict string
		results []result
	}{{"failed", s.failed}, {"skipped", s.skipped}, {"passed", s.passed}} {
		for _, r := range part.results {
			text := logged(r.output)
			if strings.Contains(r.Test, "/") && part.verdict == "passed" && text == "" {
				continue
			}
			fmt.Fprintf(&b, "\n## %s %s: %s in %.1f s\n", r.Package, r.Test, part.verdict, r.Elapsed)
			if text != "" {
				fmt.Fprintf(&b, "\n```\n%s```\n", text)
			}
		}
	}

	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	path := filepath.Join(dir, now.Format("2006-01-02T1504")+"-"+commit+".md")
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	fmt.Fprintln(os.Stderr, "gotest: wrote", path)
	return nil
}

// logged is a test's output without go test's own line.
func logged(output []string) string {
	var b strings.Builder
	for _, line := range output {
		if !strings.HasPrefix(strings.TrimLeft(line, " "), "--- ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// firstLine is the first line a command prints.
func firstLine(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line, nil
}
