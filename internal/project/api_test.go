package project

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the listing of the public API anew")

const listing = "testdata/api.txt"

// TestAPI: the public API changes on purpose only. The listing has a line per
// exported name, field and method.
func TestAPI(t *testing.T) {
	t.Parallel()
	own, _ := load(t)
	var lines []string
	for _, p := range own {
		if p.Name == "main" || strings.HasPrefix(p.path(), "internal/") {
			continue
		}
		lines = append(lines, exported(t, p)...)
	}
	if *update {
		if err := os.WriteFile(listing, []byte(strings.Join(lines, "\n")+"\n"), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(listing)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(strings.TrimSpace(string(want)), "\n"), lines); diff != "" {
		t.Errorf("the public API has changed (-before +now); if that is meant, run go test ./internal/project -run TestAPI -update, and write a sentence in CHANGELOG.md:\n%s", diff)
	}
}

// exported lists the exported names of a package.
func exported(t *testing.T, p *pkg) []string {
	t.Helper()
	fset := token.NewFileSet()
	var parsed []*ast.File
	for _, name := range p.GoFiles {
		file, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, file)
	}
	documented, err := doc.NewFromFiles(fset, parsed, p.ImportPath)
	if err != nil {
		t.Fatal(err)
	}
	l := lister{pkg: p.path(), fset: fset}
	if l.pkg == "." {
		l.pkg = p.Name
	}
	l.values(documented.Consts)
	l.values(documented.Vars)
	l.funcs(documented.Funcs)
	for _, typ := range documented.Types {
		l.typ(typ)
		l.values(typ.Consts)
		l.values(typ.Vars)
		l.funcs(typ.Funcs)
		l.funcs(typ.Methods)
	}
	slices.Sort(l.lines)
	return l.lines
}

type lister struct {
	pkg   string
	fset  *token.FileSet
	lines []string
}

func (l *lister) add(format string, args ...any) {
	l.lines = append(l.lines, l.pkg+": "+fmt.Sprintf(format, args...))
}

// code prints a node on one line.
func (l *lister) code(node any) string {
	var b bytes.Buffer
	if err := printer.Fprint(&b, l.fset, node); err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func (l *lister) values(values []*doc.Value) {
	for _, value := range values {
		typ := ""
		for _, spec := range value.Decl.Specs {
			spec := spec.(*ast.ValueSpec)
			switch {
			case spec.Type != nil:
				typ = " " + l.code(spec.Type)
			case len(spec.Values) > 0: // else it repeats the line before it, as with iota
				typ = ""
			}
			for _, name := range spec.Names {
				if name.IsExported() {
					l.add("%s %s%s", value.Decl.Tok, name.Name, typ)
				}
			}
		}
	}
}

func (l *lister) funcs(funcs []*doc.Func) {
	for _, f := range funcs {
		declared := *f.Decl
		declared.Body, declared.Doc = nil, nil
		l.add("%s", l.code(&declared))
	}
}

func (l *lister) typ(typ *doc.Type) {
	for _, spec := range typ.Decl.Specs {
		spec := spec.(*ast.TypeSpec)
		head := "type " + spec.Name.Name
		if spec.TypeParams != nil {
			var params []string
			for _, field := range spec.TypeParams.List {
				for _, name := range field.Names {
					params = append(params, name.Name+" "+l.code(field.Type))
				}
			}
			head += "[" + strings.Join(params, ", ") + "]"
		}
		switch body := spec.Type.(type) {
		case *ast.StructType:
			l.add("%s struct", head)
			l.fields(head, body.Fields)
		case *ast.InterfaceType:
			l.add("%s interface", head)
			l.fields(head, body.Methods)
		default:
			equals := ""
			if spec.Assign.IsValid() {
				equals = "= "
			}
			l.add("%s %s%s", head, equals, l.code(spec.Type))
		}
	}
}

// fields lists the exported fields of a struct, or the methods of an interface.
func (l *lister) fields(head string, list *ast.FieldList) {
	for _, field := range list.List {
		tag := ""
		if field.Tag != nil {
			tag = " " + field.Tag.Value
		}
		if len(field.Names) == 0 {
			l.add("%s, %s", head, l.code(field.Type))
		}
		for _, name := range field.Names {
			switch {
			case !name.IsExported():
			case isFunc(field.Type):
				l.add("%s, %s%s", head, name.Name, strings.TrimPrefix(l.code(field.Type), "func"))
			default:
				l.add("%s, %s %s%s", head, name.Name, l.code(field.Type), tag)
			}
		}
	}
}

func isFunc(expr ast.Expr) bool {
	_, ok := expr.(*ast.FuncType)
	return ok
}
