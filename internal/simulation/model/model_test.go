package model

import (
	"os/exec"
	"strings"
	"testing"
)

// What the model and the engine agree on must not be agreed by sharing code.
func TestNothingShared(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.Lines(string(out)) {
		dep = strings.TrimSpace(dep)
		if strings.Contains(dep, ".") && !strings.HasSuffix(dep, "internal/simulation/model") {
			t.Errorf("the model depends on %s: it must stand on the standard library alone", dep)
		}
	}
}
