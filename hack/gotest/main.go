// Command gotest runs go test and prints what go test prints, but lets no test go missing: a test that was
// skipped fails the run, and so does a run in which no test ran. With -report it also writes what each test
// logged to a file named by date and commit.
//
//	go run ./hack/gotest [-report DIR] GO-TEST-ARGUMENTS
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

func main() {
	args := os.Args[1:]
	var reportDir string
	if len(args) > 0 && strings.HasPrefix(args[0], "-report=") {
		reportDir = strings.TrimPrefix(args[0], "-report=")
		args = args[1:]
	}
	if err := run(reportDir, args); err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		os.Exit(1)
	}
}

func run(reportDir string, args []string) error {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	// A program under the race detector otherwise waits for a second before it ends, and sessions run it hundreds of times.
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start go test: %w", err)
	}
	sum, readErr := read(stdout, os.Stdout)
	if readErr != nil {
		// Nobody reads the pipe any more; go test would wait for ever.
		_ = cmd.Process.Kill()
	}
	err = cmd.Wait()
	if readErr != nil {
		return readErr
	}
	if reportDir != "" {
		if err := writeReport(reportDir, args, sum); err != nil {
			return err
		}
	}
	return sum.verdict(err)
}

// event is a line of go test -json (go doc test2json).
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

// result is one test that ended.
type result struct {
	event
	output []string
}

// summary is what one run showed.
type summary struct {
	passed, failed, skipped []result
}

// read consumes events until go test closes its end. It prints the lines about packages as they come, and of
// tests only those that failed or were skipped.
func read(r io.Reader, w io.Writer) (summary, error) {
	var sum summary
	output := map[string][]string{}
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if err == io.EOF && line == "" {
			return sum, nil
		}
		if err != nil && err != io.EOF {
			return sum, fmt.Errorf("read go test's output: %w", err)
		}
		var e event
		if json.Unmarshal([]byte(line), &e) != nil {
			fmt.Fprint(w, line)
			continue
		}
		if e.Test == "" {
			// "PASS" alone is the test binary's own line, which go test does not print either.
			if (e.Action == "output" || e.Action == "build-output") && e.Output != "PASS\n" {
				fmt.Fprint(w, e.Output)
			}
			continue
		}
		key := e.Package + " " + e.Test
		res := result{e, output[key]}
		switch e.Action {
		case "output":
			if !strings.HasPrefix(e.Output, "=== ") {
				output[key] = append(output[key], e.Output)
			}
			continue
		case "pass":
			sum.passed = append(sum.passed, res)
		case "fail":
			sum.failed = append(sum.failed, res)
			fmt.Fprint(w, strings.Join(res.output, ""))
		case "skip":
			sum.skipped = append(sum.skipped, res)
			fmt.Fprint(w, strings.Join(res.output, ""))
		default:
			continue
		}
		delete(output, key)
	}
}

// verdict is nil if tests ran, all of them, and went well.
func (s summary) verdict(goTest error) error {
	if goTest != nil {
		return fmt.Errorf("go test: %w", goTest)
	}
	if len(s.failed) > 0 {
		return fmt.Errorf("%d tests failed", len(s.failed))
	}
	if len(s.skipped) > 0 {
		var names []string
		for _, r := range s.skipped {
			names = append(names, r.Package+" "+r.Test)
		}
		return fmt.Errorf("%d tests were skipped, which counts as failure:\n\t%s", len(names), strings.Join(names, "\n\t"))
	}
	if len(s.passed) == 0 {
		return fmt.Errorf("no test ran")
	}
	return nil
}
