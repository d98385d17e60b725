package project

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestPackageComments: what go doc shows of a package begins with its purpose.
func TestPackageComments(t *testing.T) {
	t.Parallel()
	own, _ := load(t)
	for _, p := range own {
		var comments []string
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if file.Doc != nil {
				comments = append(comments, file.Doc.Text())
			}
		}
		want := "Package " + p.Name + " "
		switch {
		case len(comments) == 0:
			t.Errorf("package %s has no comment", p.path())
		case len(comments) > 1:
			t.Errorf("package %s has a comment in %d files", p.path(), len(comments))
		case p.Name != "main" && !strings.HasPrefix(comments[0], want):
			t.Errorf("the comment of package %s doesn't begin with %q", p.path(), want)
		}
	}
}

// longest is how many lines a file may have; from long on it is likely to hold two concepts.
const (
	long    = 600
	longest = 1000
)

func TestFilesAreOneConcept(t *testing.T) {
	t.Parallel()
	for _, name := range files(t) {
		if !strings.HasSuffix(name, ".go") {
			continue
		}
		switch lines := strings.Count(read(t, name), "\n"); {
		case lines > longest:
			t.Errorf("%s has %d lines; the most is %d", name, lines, longest)
		case lines > long:
			t.Logf("%s has %d lines: is it one concept?", name, lines)
		}
	}
}

// machinePath matches paths of somebody's machine.
var machinePath = regexp.MustCompile(`(^|[^\w.])/(work|farm|root|home|Users)/`)

func TestNoMachinePaths(t *testing.T) {
	t.Parallel()
	for _, name := range files(t) {
		if name == "internal/project/files_test.go" {
			continue
		}
		number := 0
		for line := range strings.Lines(read(t, name)) {
			number++
			if machinePath.MatchString(line) {
				t.Errorf("%s:%d has a path of one machine: %s", name, number, strings.TrimSpace(line))
			}
		}
	}
}

// TestNoSleeps: a test that waits for time to pass is slow when it is right and
// wrong when it is slow. In a bubble of testing/synctest no time passes.
func TestNoSleeps(t *testing.T) {
	t.Parallel()
	for _, name := range files(t) {
		if !strings.HasSuffix(name, "_test.go") || name == "internal/project/files_test.go" {
			continue
		}
		text := read(t, name)
		if strings.Contains(text, "time.Sleep(") && !strings.Contains(text, `"testing/synctest"`) {
			t.Errorf("%s sleeps", name)
		}
	}
}

// TestNothingIsLeftOpen: what is left to do stands in an issue, not in the code.
func TestNothingIsLeftOpen(t *testing.T) {
	t.Parallel()
	open := regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)
	for _, name := range files(t) {
		if !strings.HasSuffix(name, ".go") || name == "internal/project/files_test.go" {
			continue
		}
		number := 0
		for line := range strings.Lines(read(t, name)) {
			number++
			if open.MatchString(line) {
				t.Errorf("%s:%d: %s", name, number, strings.TrimSpace(line))
			}
		}
	}
}
