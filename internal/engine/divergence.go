package engine

import (
	"fmt"
	"strings"

	"github.com/fermata-go/fermata/internal/witness"
)

// CallInfo describes one side of a divergence.
type CallInfo struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	Site string `json:"site,omitempty"`
}

func (c *CallInfo) String() string {
	s := c.Kind
	if c.Name != "" { // an inline question has none
		s += fmt.Sprintf(" %q", c.Name)
	}
	if c.Site != "" {
		s += " at " + c.Site
	}
	return s
}

// Divergence says how today's code differs from what the log recorded.
type Divergence struct {
	Path     string `json:"path"`     // of the scope
	Position int    `json:"position"` // of the call in it, from 1; 0 with Key
	Key      string `json:"key,omitempty"`
	// Recorded is the call in the log; nil: there is none, and a check of the replay came to it.
	// Current is what the code calls now; nil: the scope ended without the call.
	Recorded *CallInfo `json:"recorded,omitempty"`
	Current  *CallInfo `json:"current,omitempty"`
	// Failure is the error or panic that the scope ended with, if it did; Stack is the panic's.
	Failure string               `json:"failure,omitempty"`
	Panic   bool                 `json:"panic,omitempty"`
	Stack   string               `json:"stack,omitempty"`
	Fields  []witness.Difference `json:"fields,omitempty"` // of the input

	Scope int64 `json:"scope,omitempty"` // for repair
	Claim int64 `json:"claim,omitempty"` // the recorded one
}

func (d *Divergence) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "in %s, call %d", d.Path, d.Position)
	if d.Key != "" {
		fmt.Fprintf(&b, " (key %q)", d.Key)
	}
	if d.Recorded == nil {
		fmt.Fprintf(&b, ": the code calls %s, which its first pass did not", d.Current)
		return b.String()
	}
	fmt.Fprintf(&b, ": the log recorded %s, ", d.Recorded)
	switch {
	case d.Current == nil:
		b.WriteString("the code ended without it")
		switch {
		case d.Panic:
			b.WriteString(", with the panic: " + d.Failure)
		case d.Failure != "":
			b.WriteString(", with the error: " + d.Failure)
		}
	case len(d.Fields) > 0:
		fmt.Fprintf(&b, "the code now calls it at %s with another input:", d.Current.Site)
		for i, f := range d.Fields {
			if i > 0 {
				b.WriteByte(',')
			}
			name := f.Field
			if name == "" {
				name = "the value"
			}
			fmt.Fprintf(&b, " %s was %s, is %s", name, f.Recorded, f.Current)
		}
	default:
		fmt.Fprintf(&b, "the code now calls %s", d.Current)
	}
	return b.String()
}

// Outline is the text without values: for logs.
func (d *Divergence) Outline() string {
	bare := *d
	bare.Fields, bare.Failure, bare.Panic = nil, "", false
	if len(d.Fields) == 0 || d.Recorded == nil || d.Current == nil {
		return bare.Error()
	}
	return bare.Error() + " with another input"
}

// Is reports whether target is [ErrDivergence].
func (d *Divergence) Is(target error) bool { return target == ErrDivergence }

// unexpected parks the run because a check of its replay came to a call that was never recorded.
func (s *Scope) unexpected(c call) error {
	s.refused = true
	return s.pass.diverge(&Divergence{
		Path: s.path, Position: s.next, Key: c.key,
		Current: &CallInfo{Kind: c.kind.String(), Name: c.name, Site: callSite()},
	})
}
