package project

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// snippet is a block of Go code in a document.
type snippet struct {
	document string
	line     int
	source   string // the file it is taken from; "" if the document doesn't say
	lines    []string
}

// sourceLine stands before a block of Go code and says where it is from.
var sourceLine = regexp.MustCompile(`^<!-- from (\S+) -->$`)

func snippets(document, text string) (found []snippet) {
	var current *snippet
	source := ""
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\r\n")
		switch {
		case current != nil && line == "```":
			found = append(found, *current)
			current, source = nil, ""
		case current != nil:
			current.lines = append(current.lines, line)
		case line == "```go":
			current = &snippet{document: document, line: number, source: source}
		case sourceLine.MatchString(line):
			source = sourceLine.FindStringSubmatch(line)[1]
		default:
			source = ""
		}
	}
	return found
}

// in reports whether the lines of the snippet stand in text one after the
// other, with the same indentation more or less for all.
func (s *snippet) in(text string) bool {
	all := strings.Split(text, "\n")
	for i := range all {
		if s.at(all[i:]) {
			return true
		}
	}
	return false
}

func (s *snippet) at(lines []string) bool {
	if len(lines) < len(s.lines) {
		return false
	}
	indent, ok := strings.CutSuffix(lines[0], s.lines[0])
	if !ok || strings.Trim(indent, "\t") != "" {
		return false
	}
	for i, want := range s.lines {
		if want != "" {
			want = indent + want
		}
		if lines[i] != want {
			return false
		}
	}
	return true
}

// TestSnippets: code in the documents is code that is compiled and run.
func TestSnippets(t *testing.T) {
	t.Parallel()
	for _, name := range files(t) {
		if !strings.HasSuffix(name, ".md") {
			continue
		}
		for _, s := range snippets(name, read(t, name)) {
			switch {
			case s.source == "":
				t.Errorf("%s:%d: the code has no line <!-- from FILE --> before it", s.document, s.line)
			case len(s.lines) == 0:
				t.Errorf("%s:%d: the block of code is empty", s.document, s.line)
			case !s.in(read(t, s.source)):
				t.Errorf("%s:%d: the code doesn't stand like this in %s", s.document, s.line, s.source)
			}
		}
	}
}

func TestSnippetsAreFound(t *testing.T) {
	t.Parallel()
	source := "package p\n\nfunc f() {\n\tif x {\n\n\t\ty()\n\t}\n}\n"
	for text, want := range map[string]bool{
		"if x {\n\n\ty()\n}":   true,
		"func f() {\n\tif x {": true,
		"if x {\n\ty()\n}":     false,
		"y()\n\t}":             false,
		"if x {\n\n\tz()\n}":   false,
	} {
		document := fmt.Sprintf("words\n\n<!-- from a.go -->\n```go\n%s\n```\nwords\n", text)
		found := snippets("a.md", document)
		if len(found) != 1 || found[0].source != "a.go" || found[0].line != 4 {
			t.Fatalf("found %+v", found)
		}
		if got := found[0].in(source); got != want {
			t.Errorf("%q found: %t, want %t", text, got, want)
		}
	}
}

var (
	// link is a link of Markdown to a file of the project.
	link = regexp.MustCompile(`\]\(([^)#:\s]+)(#[^)]*)?\)`)
	// fence is a block of code, which has no links.
	fence = regexp.MustCompile("(?ms)^```.*?^```$")
)

// TestLinks: links between the documents lead somewhere.
func TestLinks(t *testing.T) {
	t.Parallel()
	for _, name := range files(t) {
		if !strings.HasSuffix(name, ".md") {
			continue
		}
		for _, match := range link.FindAllStringSubmatch(fence.ReplaceAllString(read(t, name), ""), -1) {
			if !exists(name, match[1]) {
				t.Errorf("%s has a link to %s, which doesn't exist", name, match[1])
			}
		}
	}
}

// TestEverythingIsFound: docs/README.md leads to every document and every example.
func TestEverythingIsFound(t *testing.T) {
	t.Parallel()
	index := read(t, "docs/README.md")
	for _, name := range files(t) {
		example := strings.HasPrefix(name, "example_") && strings.HasSuffix(name, "_test.go")
		document := strings.HasPrefix(name, "docs/") && strings.HasSuffix(name, ".md") && name != "docs/README.md"
		target := strings.TrimPrefix(name, "docs/")
		if example {
			target = "../" + name
		}
		if (example || document) && !strings.Contains(index, "]("+target+")") {
			t.Errorf("docs/README.md doesn't lead to %s", name)
		}
	}
}
