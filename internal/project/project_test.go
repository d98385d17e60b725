package project

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/fermata-go/fermata"
)

// pkg is what go list says of a package.
type pkg struct {
	Dir         string
	ImportPath  string
	Name        string
	Doc         string
	Standard    bool
	Module      *struct{ Path string }
	GoFiles     []string
	TestGoFiles []string
	Imports     []string // of its own files, not of its tests
	Deps        []string // and what these import
}

// own reports whether the package is of this module.
func (p *pkg) own() bool { return p.Module != nil && p.Module.Path == module }

// path is the import path within the module; "." is the root.
func (p *pkg) path() string { return within(p.ImportPath) }

func within(importPath string) string {
	if importPath == module {
		return "."
	}
	return strings.TrimPrefix(importPath, module+"/")
}

// packages lists the module's packages and everything they import, by import path.
var packages = sync.OnceValues(func() (map[string]*pkg, error) {
	list := exec.Command("go", "list", "-deps", "-json=Dir,ImportPath,Name,Doc,Standard,Module,GoFiles,TestGoFiles,Imports,Deps", "./...")
	list.Dir = root
	var stderr bytes.Buffer
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		return nil, errors.Join(err, errors.New(stderr.String()))
	}
	all := map[string]*pkg{}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := decoder.Decode(&p); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all[p.ImportPath] = &p
	}
})

// load returns the module's own packages, in order, and all packages.
func load(t *testing.T) (own []*pkg, all map[string]*pkg) {
	t.Helper()
	all, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if p.own() {
			own = append(own, p)
		}
	}
	slices.SortFunc(own, func(a, b *pkg) int { return strings.Compare(a.ImportPath, b.ImportPath) })
	return own, all
}

// files lists the project's text files, as slash-separated paths from the root.
func files(t *testing.T) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		switch {
		case entry.IsDir() && (name == ".git" || name == "testdata"):
			return filepath.SkipDir
		case entry.IsDir():
			return nil
		}
		text := slices.Contains([]string{".go", ".md", ".s", ".sql", ".sh", ".yml", ".yaml", ".mod", ".txt", ""}, filepath.Ext(name))
		if relative, err := filepath.Rel(root, path); err == nil && text {
			found = append(found, filepath.ToSlash(relative))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// exists reports whether the file or directory that a document names by a relative path is there.
func exists(document, target string) bool {
	_, err := os.Stat(filepath.Join(root, filepath.FromSlash(path.Join(path.Dir(document), target))))
	return err == nil
}
