package main

import (
	"strings"
	"testing"

	"github.com/fermata-go/fermata/internal/pgtest"
)

func TestOutput(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := run(t.Context(), pgtest.DSN(t), &out); err != nil {
		t.Fatal(err)
	}
	want := "order 1 delivered\nrefused: true\na run of it: false\n"
	if out.String() != want {
		t.Errorf("got:\n%swant:\n%s", out.String(), want)
	}
}
