package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// workflow is a file of GitHub Actions, as far as it is checked.
type workflow struct {
	On          map[string]any
	Permissions map[string]string
	Jobs        map[string]struct {
		Timeout int    `yaml:"timeout-minutes"`
		RunsOn  string `yaml:"runs-on"`
		Steps   []struct {
			Uses, Run string
			With      map[string]string
		}
	}
}

// TestWorkflows checks that each workflow can read the repository and nothing else,
// ends in time, and runs targets of the Makefile.
func TestWorkflows(t *testing.T) {
	t.Parallel()
	makefile := readText(t, "../Makefile")
	names, err := filepath.Glob("../.github/workflows/*")
	must(t, err)
	var targets []string
	for _, name := range names {
		decoder := yaml.NewDecoder(strings.NewReader(readText(t, name)))
		var w workflow
		if err := decoder.Decode(&w); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_, onPush := w.On["push"]
		_, onPullRequest := w.On["pull_request"]
		if !onPush || !onPullRequest {
			t.Errorf("%s runs on %v, want push and pull_request", name, w.On)
		}
		if len(w.Permissions) != 1 || w.Permissions["contents"] != "read" {
			t.Errorf("%s has the permissions %v, want contents: read", name, w.Permissions)
		}
		for id, job := range w.Jobs {
			if job.Timeout == 0 || job.RunsOn == "" {
				t.Errorf("%s: %s has a timeout of %d minutes and runs on %q, want both set", name, id, job.Timeout, job.RunsOn)
			}
			for _, step := range job.Steps {
				if step.Uses != "" && !regexp.MustCompile(`^[\w-]+/[\w-]+@v\d+$`).MatchString(step.Uses) {
					t.Errorf("%s: got %q, want an action with its major version", name, step.Uses)
				}
				for _, m := range regexp.MustCompile(`(?m)^\s*make ([\w-]+)$`).FindAllStringSubmatch(step.Run, -1) {
					targets = append(targets, m[1])
				}
				for _, file := range strings.Fields(step.With["go-version-file"] + " " + step.With["cache-dependency-path"]) {
					if _, err := os.Stat(filepath.Join(root, file)); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
		}
	}
	for _, target := range targets {
		if !strings.Contains(makefile, "\n"+target+":") {
			t.Errorf("the Makefile has no target %q", target)
		}
	}
	for _, want := range []string{"test", "lint"} {
		if !slices.Contains(targets, want) {
			t.Errorf("the workflows run make %q, want %q too", targets, want)
		}
	}
}
