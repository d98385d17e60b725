package simulation

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/fermata-go/fermata/internal/simulation/model"
	"pgregory.net/rapid"
)

// mutation is what a deploy changed while a run waited.
type mutation struct {
	Kind  string
	Where region
}

// region is where in the program something stands; zero: in the body of the entrypoint, alone.
type region uint8

// The regions; a statement may be in several.
const (
	inTask region = 1 << iota
	inGroup
	inNested  // entrypoint
	inRetries // of the statement's own call, or of what is around
	inFlight  // a call that is started and not awaited at once, or a statement while there is one
)

var regionNames = [...]string{"task", "group", "nested", "retries", "in flight"}

func (r region) String() string {
	if r == 0 {
		return "body"
	}
	var names []string
	for i, name := range regionNames {
		if r&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// mutationKinds are all kinds, as often as each is to be tried.
var mutationKinds = []string{
	"insert", "insert", "delete", "delete", "swap", "swap", "swap", "rename", "rename", "rename",
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
		if rapid.IntRange(0, 4).Draw(t, "reached") > 0 {
			// A change of what never runs is no risk.
			outcome, _ := alone(p, nil)
			reached := slices.DeleteFunc(slices.Clone(fit), func(at site) bool { return !outcome.Reached[(*at.block)[at.index].ID] })
			if len(reached) > 0 {
				fit = reached
			}
		}
		at := rapid.SampledFrom(fit).Draw(t, "site")
		m.Where = at.region
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
	block  *[]model.Stmt
	index  int
	first  int // composite that a call here may name
	region region
}

// surveyor lists statements.
type surveyor struct {
	program *model.Program
	all     []site
}

// sites lists all statements of what runs.
func sites(p *model.Program) []site {
	v := surveyor{program: p}
	around := region(0)
	if p.Attempts > 0 {
		around = inRetries
	}
	v.block(&p.Body, 0, around, map[int]bool{})
	called := map[string]bool{}
	model.Walk(p.Body, func(s *model.Stmt) { called[s.Task] = true })
	for i := range p.Tasks {
		t := &p.Tasks[i]
		if t.Body == nil || !called[t.Name] {
			continue
		}
		model.Walk(t.Body, func(s *model.Stmt) { called[s.Task] = true })
		at := around | inTask
		if t.Nested {
			at |= inNested
		}
		if t.Attempts > 0 {
			at |= inRetries
		}
		v.block(&t.Body, i+1, at, map[int]bool{})
	}
	return v.all
}

// block lists the statements of a block. flying are the futures of its scope that are not awaited yet.
func (v *surveyor) block(block *[]model.Stmt, first int, around region, flying map[int]bool) {
	for i := range *block {
		s := &(*block)[i]
		at := around
		if t := v.program.Task(s.Task); t != nil && t.Attempts > 0 {
			at |= inRetries
		}
		if s.Op == model.Go {
			flying[s.Future] = true
		}
		if len(flying) > 0 || s.Op == model.Fan {
			at |= inFlight
		}
		if s.Op == model.Await {
			delete(flying, s.Future)
		}
		v.all = append(v.all, site{block, i, first, at})
		if s.Op == model.Group {
			v.block(&s.Body, first, around|inGroup, map[int]bool{})
			continue
		}
		v.block(&s.Body, first, around, flying)
		v.block(&s.Else, first, around, flying)
	}
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
