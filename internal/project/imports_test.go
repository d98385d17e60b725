package project

import (
	"path"
	"slices"
	"strings"
	"testing"
)

// rule says what of this module packages may import, and why no more. The
// arrows are drawn in ARCHITECTURE.md.
type rule struct {
	// of are the packages that the rule is about; a pattern of package path.
	of []string
	// may are patterns of the packages that they may import.
	may []string
	why string
	// modules are the modules of others that they may depend on, through others too.
	modules []string
}

// What the modules of others bring along is theirs.
var (
	sqliteDriver   = []string{"zombiezen.com/go/sqlite", "modernc.org/*", "golang.org/x/*", "github.com/dustin/go-humanize", "github.com/google/uuid", "github.com/mattn/go-isatty", "github.com/ncruces/go-strftime", "github.com/remyoudompheng/bigfft"}
	postgresDriver = []string{"github.com/jackc/*", "github.com/jackc/*/*", "golang.org/x/*"}
	testLibraries  = []string{"github.com/google/go-cmp", "pgregory.net/rapid", "go.uber.org/goleak"}
	schemas        = []string{"github.com/google/jsonschema-go"}
)

// leaves are packages of one noun each, which know nothing of fermata's nouns.
var leaves = []string{"internal/codec", "internal/codec/*", "internal/combine", "internal/goroutine", "internal/schema", "internal/witness"}

var rules = []rule{
	{
		of:  []string{"storage"},
		why: "the contract is what others implement: it must not bring anything along",
	},
	{
		of:      leaves,
		may:     leaves,
		modules: schemas,
		why:     "a leaf is about one noun, so that it can be read, tested and replaced alone",
	},
	{
		of:  []string{"storage/memory"},
		may: []string{"storage", "internal/combine"},
		why: "a backend knows the contract, not who calls it, and no other backend: any of them may be left out",
	},
	{
		of:      []string{"sqlite"},
		may:     []string{"storage", "internal/combine"},
		modules: sqliteDriver,
		why:     "a backend knows the contract, not who calls it, and no other backend: any of them may be left out",
	},
	{
		of:      []string{"postgres"},
		may:     []string{"storage", "internal/combine"},
		modules: postgresDriver,
		why:     "a backend knows the contract, not who calls it, and no other backend: any of them may be left out",
	},
	{
		of:  []string{"sealed"},
		may: []string{"storage"},
		why: "it stands between any backend and any engine",
	},
	{
		of:      []string{"internal/engine"},
		may:     append([]string{"storage"}, leaves...),
		modules: schemas,
		why:     "the engine moves bytes and ids: a simulator drives it without types, and without a database",
	},
	{
		of:      []string{"."},
		may:     append([]string{"storage", "internal/engine"}, leaves...),
		modules: schemas,
		why:     "who imports fermata chooses a database, and gets no driver of another one",
	},
	{
		of:      []string{"storage/storagetest", "storage/storagetest/*"},
		may:     []string{"storage", "storage/storagetest"},
		modules: testLibraries,
		why:     "the conformance suite holds backends to the contract, so it may know nothing but the contract",
	},
	{
		of:      []string{"fermatatest"},
		may:     []string{".", "storage", "storage/memory", "storage/storagetest/faulty", "internal/incarnation"},
		modules: schemas,
		why:     "it is for the tests of users, who have only the public API",
	},
	{
		of:  []string{"internal/incarnation"},
		may: []string{"storage"},
		why: "it stands between any backend and any engine",
	},
	{
		of:  []string{"internal/simulation/*"},
		why: "the model must share no code with what it is the model of",
	},
	{
		of:      []string{"internal/backendtest"},
		may:     []string{"storage", "storage/memory", "sqlite", "postgres", "internal/incarnation", "internal/pgtest"},
		modules: slices.Concat(sqliteDriver, postgresDriver),
		why:     "it opens databases for tests, and has nothing to do with what they test",
	},
	{
		of:      []string{"internal/pgtest"},
		modules: postgresDriver,
		why:     "it is about a server, not about what is kept in it",
	},
	{
		of:  []string{"internal/simulation", "internal/crashtest", "internal/project"},
		why: "they have tests only",
	},
	{
		of:      []string{"examples/*"},
		may:     []string{".", "storage/memory", "sqlite", "postgres"},
		modules: slices.Concat(schemas, sqliteDriver, postgresDriver),
		why:     "an example is what a user could write",
	},
	{
		of:      []string{"bench", "bench/*"},
		may:     []string{".", "storage", "storage/memory", "sqlite", "postgres", "internal/pgtest"},
		modules: slices.Concat(schemas, sqliteDriver, postgresDriver),
		why:     "what is measured is what users get",
	},
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, err := path.Match(pattern, name)
		return ok && err == nil
	})
}

func TestImports(t *testing.T) {
	t.Parallel()
	own, all := load(t)
	for _, p := range own {
		at := slices.IndexFunc(rules, func(r rule) bool { return matches(r.of, p.path()) })
		if at < 0 {
			t.Errorf("%s has no place in the project: draw its arrows in ARCHITECTURE.md and in this test", p.path())
			continue
		}
		r := rules[at]
		for _, name := range p.Imports {
			if imported := all[name]; imported != nil && imported.own() && !matches(r.may, imported.path()) {
				t.Errorf("%s imports %s: %s", p.path(), imported.path(), r.why)
			}
		}
		foreign := map[string]bool{}
		for _, name := range p.Deps {
			dep := all[name]
			if dep == nil || dep.Standard || dep.Module == nil || dep.own() {
				continue
			}
			if m := dep.Module.Path; !matches(r.modules, m) && !foreign[m] {
				foreign[m] = true
				t.Errorf("%s depends on the module %s: %s", p.path(), m, r.why)
			}
		}
	}
}

// TestRulesHaveAReason: a ban without a reason is removed by the first who meets it.
func TestRulesHaveAReason(t *testing.T) {
	t.Parallel()
	for _, r := range rules {
		if r.why == "" {
			t.Errorf("the rule of %v has no reason", r.of)
		}
	}
}

// TestTestingStaysOutOfPrograms: a package that imports testing adds its flags to each program that imports it.
func TestTestingStaysOutOfPrograms(t *testing.T) {
	t.Parallel()
	own, _ := load(t)
	for _, p := range own {
		if slices.Contains(p.Imports, "testing") && !strings.HasSuffix(p.Name, "test") {
			t.Errorf("%s imports testing, and isn't called …test", p.path())
		}
		for _, name := range p.Imports {
			if strings.HasSuffix(name, "test") && strings.HasPrefix(name, module) && !strings.HasSuffix(p.Name, "test") && p.path() != "bench" {
				t.Errorf("%s imports %s, which is for tests", p.path(), within(name))
			}
		}
	}
}

// direct are the modules that go.mod requires for this module's own code and tests.
var direct = map[string]string{
	"github.com/google/jsonschema-go": "the schema of an answer, from its type",
	"zombiezen.com/go/sqlite":         "package sqlite: SQLite without cgo, and with the calls that group commit needs",
	"github.com/jackc/pgx/v5":         "package postgres: pipelines and LISTEN",
	"golang.org/x/sys":                "package sqlite: file locks on Windows",
	"github.com/google/go-cmp":        "tests: differences that can be read",
	"go.uber.org/goleak":              "tests: goroutines left behind",
	"pgregory.net/rapid":              "tests: random cases that shrink",
}

func TestDependencies(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for line := range strings.Lines(read(t, "go.mod")) {
		fields := strings.Fields(line)
		if strings.HasPrefix(line, "\t") && !strings.Contains(line, "// indirect") {
			seen[fields[0]] = true
			if direct[fields[0]] == "" {
				t.Errorf("go.mod requires %s: say here why, or do without it", fields[0])
			}
		}
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == "go" && fields[1] != "1.26" {
			t.Errorf("go.mod says go %s: the promise is Go 1.26", fields[1])
		}
		if strings.HasPrefix(line, "toolchain") || strings.HasPrefix(line, "replace") {
			t.Errorf("go.mod has the line %q, which is for one machine only", strings.TrimSpace(line))
		}
	}
	for name := range direct {
		if !seen[name] {
			t.Errorf("go.mod doesn't require %s any more: remove it here", name)
		}
	}
}
