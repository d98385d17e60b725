package simulation

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/fermata-go/fermata/internal/simulation/model"
	"pgregory.net/rapid"
)

// mutation is what a deploy changed while a run waited.
type mutation struct {
	Kind  string
	Where string // "body", "task", "future" – a call that is started, not awaited at once
}

// mutationKinds are all kinds, as often as each is to be tried.
var mutationKinds = []string{
	"insert", "insert", "delete", "delete", "swap", "swap", "rename", "rename",
	"argument", "argument", "argument", "payload", "payload", "key", "duplicate", "width", "catch", "none",
}

// mutants generates a changed copy of a program.
func mutants(p *model.Program) *rapid.Generator[mutant] {
	return rapid.Custom(func(t *rapid.T) mutant {
		m := mutant{Program: clone(p)}
		kind := rapid.SampledFrom(mutationKinds).Draw(t, "mutation")
		m.Kind = kind
		if kind == "none" {
			return m
		}
		places := sites(m.Program)
		fit := slices.DeleteFunc(slices.Clone(places), func(at site) bool { return !fits(kind, at) })
		if len(fit) == 0 {
			m.Kind = "none"
			return m
		}
		at := rapid.SampledFrom(fit).Draw(t, "site")
		m.Where = at.where
		s := &(*at.block)[at.index]
		if s.Op == model.Go || s.Op == model.Await || s.Op == model.Fan {
			m.Where += ", future"
		}
		change(t, kind, at, &generator{t: t, id: 1000})
		return m
	})
}

type mutant struct {
	mutation
	Program *model.Program
}

// site is a statement of a program.
type site struct {
	block *[]model.Stmt
	index int
	first int // composite that a call here may name
	where string
}

// sites lists all statements of what runs.
func sites(p *model.Program) []site {
	var all []site
	var visit func(block *[]model.Stmt, first int, where string)
	visit = func(block *[]model.Stmt, first int, where string) {
		for i := range *block {
			all = append(all, site{block, i, first, where})
			s := &(*block)[i]
			visit(&s.Body, first, where)
			visit(&s.Else, first, where)
		}
	}
	visit(&p.Body, 0, "body")
	called := map[string]bool{}
	model.Walk(p.Body, func(s *model.Stmt) { called[s.Task] = true })
	for i := range p.Tasks {
		t := &p.Tasks[i]
		if t.Body == nil || !called[t.Name] {
			continue
		}
		model.Walk(t.Body, func(s *model.Stmt) { called[s.Task] = true })
		visit(&t.Body, i+1, "task")
	}
	return all
}

func fits(kind string, at site) bool {
	s := &(*at.block)[at.index]
	calls := s.Op == model.Call || s.Op == model.Go || s.Op == model.Fan
	switch kind {
	case "rename", "argument":
		return calls
	case "payload":
		return s.Op == model.Ask
	case "key":
		return calls || s.Op == model.Ask
	case "swap":
		return len(*at.block) > 1
	case "width":
		return s.Op == model.Fan
	case "catch":
		return s.Op == model.Call || s.Op == model.Await || s.Op == model.Fan
	}
	return true
}

func change(t *rapid.T, kind string, at site, g *generator) {
	block := at.block
	s := &(*block)[at.index]
	switch kind {
	case "insert":
		fresh := g.stmt(0, at.first)
		*block = slices.Insert(*block, at.index+g.int("after", 0, 1), fresh)
	case "delete":
		*block = slices.Delete(*block, at.index, at.index+1)
	case "swap":
		other := g.int("with", 0, len(*block)-1)
		(*block)[at.index], (*block)[other] = (*block)[other], (*block)[at.index]
	case "rename":
		s.Task = g.task(at.first)
	case "argument", "payload":
		s.Arg = g.expr()
	case "key":
		if s.Key == "" {
			s.Key = fmt.Sprintf("k%d", s.ID)
		} else {
			s.Key = rapid.SampledFrom([]string{"", "renamed"}).Draw(t, "key")
		}
	case "duplicate":
		again := cloneOf((*block)[at.index : at.index+1])
		renumber(again, g)
		*block = slices.Insert(*block, at.index+1, again...)
	case "width":
		s.N = g.int("width", 1, 5)
		s.Order = slices.DeleteFunc(s.Order, func(i int) bool { return i >= s.N })
	case "catch":
		s.Catch = !s.Catch
	}
}

// renumber gives statements ids, and keys, of their own.
func renumber(block []model.Stmt, g *generator) {
	for i := range block {
		g.id++
		block[i].ID = g.id
		if block[i].Key != "" {
			block[i].Key = fmt.Sprintf("k%d", g.id)
		}
		renumber(block[i].Body, g)
		renumber(block[i].Else, g)
	}
}

func clone(p *model.Program) *model.Program {
	out := cloneOf(*p)
	return &out
}

// cloneOf copies data with all that hangs on it.
func cloneOf[T any](v T) T {
	var out T
	data, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	if err != nil {
		panic(err)
	}
	return out
}
