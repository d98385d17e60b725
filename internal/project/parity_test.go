package project

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

var (
	testFunction = regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	testName     = regexp.MustCompile("`(Test\\w+)`")
	parityRow    = regexp.MustCompile(`^\| (\d+) \|`)
)

// TestParity: each behaviour in docs/parity.md is proved by a test that exists, and each ruling that has a test has a row.
func TestParity(t *testing.T) {
	t.Parallel()
	exist := map[string]bool{}
	for _, name := range files(t) {
		if strings.HasSuffix(name, "_test.go") {
			for _, match := range testFunction.FindAllStringSubmatch(read(t, name), -1) {
				exist[match[1]] = true
			}
		}
	}
	const document = "docs/parity.md"
	named := map[string]bool{}
	rows, part := 0, ""
	for line := range strings.Lines(read(t, document)) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			part = strings.TrimSpace(title)
		}
		row := parityRow.FindStringSubmatch(line)
		if row == nil {
			continue
		}
		if rows++; row[1] != fmt.Sprint(rows) {
			t.Errorf("%s: row %s stands where row %d is due", document, row[1], rows)
		}
		tests := testName.FindAllStringSubmatch(line, -1)
		if len(tests) == 0 && !strings.HasSuffix(part, "Not offered") {
			t.Errorf("%s: row %s names no test", document, row[1])
		}
		for _, test := range tests {
			named[test[1]] = true
			if !exist[test[1]] {
				t.Errorf("%s: row %s names %s, which doesn't exist", document, row[1], test[1])
			}
		}
	}
	for test := range exist {
		if strings.HasPrefix(test, "TestDeviation") && !named[test] {
			t.Errorf("%s has no row for %s", document, test)
		}
	}
	if rows == 0 {
		t.Errorf("%s has no rows", document)
	}
}
