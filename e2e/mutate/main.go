// Command mutate tests the tests of a login. It puts single faults into the code, one
// at a time, and runs the tests of that code. If no test notices a fault, a test is
// missing, or the fault is equivalent to the original code. Run it in e2e:
//
//	go run ./mutate                       all faults
//	go run ./mutate -only 'limit|queue'   faults whose package or description matches
//	go run ./mutate -stages 2             without the slowest tests
//	go run ./mutate -list                 list the faults, and check that their text is in the code
//
// The faults are in the tables of ratelimit.go, hashqueue.go, rehash.go and login.go. All faults
// of a package are built into one test binary, see binary. The environment variable
// MUTANT selects the fault. All of this happens in a temporary copy of the files.
//
// The command fails if a text of a table is not in the code, or if a fault survives
// that is not declared equivalent.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// mutation is one fault.
type mutation struct {
	old, new string // texts; old is in the package, without tests, exactly once
	fault    string // describes the fault

	// equivalent says why no test can notice the fault, "" if one must.
	equivalent string

	// rare says that no test notices the fault in every run, because it depends on
	// the order of two goroutines. The tests are then run several times.
	rare bool
}

// rareRuns is how often the tests are run for a rare fault.
const rareRuns = 5

// target is a package with its faults, and how to test it.
type target struct {
	dir       string   // below the root of the module
	race      bool     // its tests need the race detector to notice the faults
	stages    []string // patterns of the tests to run; later ones for faults that survived the earlier ones
	skip      string   // pattern of tests of other code, or of a later stage
	mutations []mutation
}

// result is the outcome of a mutation.
type result struct {
	verdict string // killed, survived, does not compile
	by      string // the test that failed first
	took    time.Duration
}

const (
	killed      = "killed"
	survived    = "SURVIVED"
	equivalent  = "equivalent"
	notCompiled = "DOES NOT COMPILE"
)

// testTimeout limits a run of the tests without a fault. With a fault, it may take
// five times as long as without, plus leastTimeout.
const (
	testTimeout  = 4 * time.Minute
	leastTimeout = 10 * time.Second
)

func main() {
	only := flag.String("only", "", "pattern of the package and fault")
	list := flag.Bool("list", false, "list the faults")
	stages := flag.Int("stages", 9, "run at most this many stages of the tests; later ones take longer")
	flag.Parse()
	if err := run(*only, *list, *stages); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(only string, list bool, stages int) error {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch) //nolint:errcheck // a temporary directory
	if !list {
		if err := copyTree("..", scratch); err != nil {
			return err
		}
	}
	total := make(map[string]int)
	var problems []error
	for _, t := range targets {
		var chosen []mutation
		for _, m := range t.mutations {
			if pattern.MatchString(t.dir + ": " + m.fault) {
				chosen = append(chosen, m)
			}
		}
		t.stages = t.stages[:min(stages, len(t.stages))]
		if t.mutations = chosen; len(chosen) == 0 {
			continue
		}
		if list {
			sources, err := parseDir(filepath.Join("..", t.dir))
			if err != nil {
				return err
			}
			for _, m := range chosen {
				_, err := findPlace(sources, m.old)
				fmt.Printf("%s: %s\n", t.dir, m.fault)
				problems = append(problems, err)
			}
			continue
		}
		if err := t.check(scratch, total); err != nil {
			return fmt.Errorf("%s: %w", t.dir, err)
		}
	}
	if list {
		return errors.Join(problems...)
	}
	fmt.Printf("\n%d killed, %d survived, %d equivalent, %d not compiled\n", total[killed], total[survived], total[equivalent], total[notCompiled])
	if total[survived]+total[notCompiled] > 0 {
		return errors.New("write a test for each fault that survived, or say in the table why it is equivalent")
	}
	return nil
}

// check tests all mutations of a package, and prints the results.
func (t *target) check(scratch string, total map[string]int) error {
	b, err := t.build(scratch)
	if err != nil {
		return err
	}
	defer b.restore()
	timeouts := make([]time.Duration, len(t.stages))
	fmt.Printf("\n%s: %d faults; the tests without a fault take", t.dir, len(t.mutations))
	for i, tests := range t.stages {
		r := b.test(-1, tests, testTimeout)
		if r.verdict != survived {
			return fmt.Errorf("the tests fail without a fault: %s", r.by)
		}
		fmt.Printf(" %s", r.took.Round(time.Second/10))
		timeouts[i] = leastTimeout + 5*r.took
	}
	fmt.Print("\n\n")
	for i, m := range t.mutations {
		r := result{verdict: notCompiled, by: b.broken[i]}
		if r.by == "" {
			start := time.Now()
			runs := t.stages
			if m.rare {
				runs = slices.Repeat(runs, rareRuns)
			}
			for run, tests := range runs {
				if r = b.test(i, tests, timeouts[run%len(timeouts)]); r.verdict != survived {
					break
				}
			}
			r.took = time.Since(start)
		}
		if r.verdict == survived && m.equivalent != "" {
			r.verdict, r.by = equivalent, m.equivalent
		} else if r.verdict == killed && m.equivalent != "" {
			r.by += " (though declared equivalent)"
		}
		total[r.verdict]++
		fmt.Printf("%-16s %5.1fs  %s  [%s]\n", r.verdict, r.took.Seconds(), m.fault, r.by)
	}
	return nil
}

// firstFailure finds the test that failed, or the crash that ended the tests.
var firstFailure = regexp.MustCompile(`(?m)^(?:\s*--- FAIL: (\S+)|(panic: .*|fatal error: .*|WARNING: DATA RACE))`)

// test runs tests with a mutation, or without one if its number is -1.
func (b *binary) test(number int, tests string, timeout time.Duration) result {
	ctx, cancel := context.WithTimeout(context.Background(), timeout+10*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, b.path, "-test.failfast", "-test.timeout="+timeout.String(), "-test.run="+tests, "-test.skip="+b.skip) //nolint:gosec // made here
	c.Dir = b.dir
	c.Env = append(os.Environ(), "MUTANT="+strconv.Itoa(number))
	start := time.Now()
	out, err := c.CombinedOutput()
	r := result{verdict: survived, took: time.Since(start)}
	if err != nil {
		r.verdict, r.by = killed, "ended with "+err.Error()
		if found := firstFailure.FindStringSubmatch(string(out)); found != nil {
			r.by = found[1] + found[2]
		}
		if os.Getenv("MUTATE_OUTPUT") != "" {
			fmt.Printf("%s\n", out)
		}
	}
	return r
}

// copyTree copies the files that git tracks or would add.
func copyTree(from, to string) error {
	out, err := exec.Command("git", "-C", from, "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output() //nolint:gosec // the directory of this repository
	if err != nil {
		return fmt.Errorf("git ls-files: %w", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		text, err := os.ReadFile(filepath.Join(from, name)) //nolint:gosec // a file of this repository
		if os.IsNotExist(err) {
			continue // removed, and not committed yet
		}
		if err != nil {
			return err
		}
		path := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o600); err != nil { //nolint:gosec // in a temporary directory
			return err
		}
	}
	return nil
}
