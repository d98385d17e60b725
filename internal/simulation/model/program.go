package model

import (
	"fmt"
	"strings"
)

// Program is a workflow as data.
type Program struct {
	Body []Stmt // of the entrypoint
	// Attempts that the retry policy of the entrypoint, and so of tasks that have none of their own, allows; 0: it has none.
	Attempts int
	Tasks    []Task // a task calls only tasks that stand after it
}

// Task of a program. One without a Body is a leaf: a function that makes no
// durable call, and whose result is the world's.
type Task struct {
	Name string
	Body []Stmt
	// Former is another Body that the task may have had when it was called, see [Run.Former]; nil: none.
	Former []Stmt
	// Nested: it is a nested entrypoint.
	Nested bool
	// Attempts that its retry policy allows; 0: it has none.
	Attempts int
	// FailFirst attempts of a leaf fail.
	FailFirst int
	// Heals is the epoch of the world from which on a leaf doesn't fail any more.
	Heals int
	// Panics: a leaf fails by a panic.
	Panics bool
}

// Task finds a task by its name; nil if there is none.
func (p *Program) Task(name string) *Task {
	for i := range p.Tasks {
		if p.Tasks[i].Name == name {
			return &p.Tasks[i]
		}
	}
	return nil
}

// Op is what a statement does.
type Op uint8

// The statements. Var numbers a variable of the scope; variable 0 holds the input at first.
const (
	Let    Op = iota // Var = Arg
	Call             // Var = Task(Arg)
	Go               // start Task(Arg) as the future Future
	Await            // Var = the result of Future; nothing, if it was not started
	Fan              // start Task for each of N, await those in Order, Var = the mix of their results
	Group            // N branches, each with a scope of its own, run Body; Var = the mix of their results
	Ask              // Var = the answer to Arg
	If               // Body if Arg is even, else Else
	Loop             // Body up to N times, until Var is a multiple of 3
	Fail             // end the scope with an error
	Return           // end the scope with Arg
	numOps
)

var opNames = [numOps]string{"let", "call", "go", "await", "fan", "group", "ask", "if", "loop", "fail", "return"}

func (o Op) String() string { return opNames[o] }

// Wrap says which failures the error of [Fail] wraps.
type Wrap uint8

// What an error may wrap.
const (
	Opaque Wrap = iota // nothing
	Last               // the failure caught last
	All                // all that were caught
	Panics             // nothing, and it is a panic
)

var wrapNames = [...]string{"opaque", "wrapping the last", "wrapping all", "by a panic"}

// Stmt is a statement.
type Stmt struct {
	ID     int // names the statement in its program
	Op     Op
	Task   string
	Arg    Expr
	Var    int
	Future int
	Key    string // of a call or a question; in a loop or a fan-out the count is added
	Catch  bool   // a failure of the call is a value like any other; else the scope ends with it
	N      int
	Order  []int
	Body   []Stmt
	Else   []Stmt
	Wrap   Wrap
}

// NumVars and NumFutures bound what a scope has.
const (
	NumVars    = 5
	NumFutures = 3
)

// Expr is a constant, mixed with a variable unless Var is negative.
type Expr struct {
	Const int
	Var   int
}

// Eval computes e.
func (e Expr) Eval(vars *[NumVars]int) int {
	if e.Var < 0 {
		return e.Const
	}
	return Mix(e.Const, vars[e.Var])
}

// Mix makes one value of several.
func Mix(values ...int) int {
	h := uint64(14695981039346656037)
	for _, v := range values {
		h = (h ^ uint64(v)) * 1099511628211
		h ^= h >> 29
	}
	return int(h & (1<<30 - 1))
}

// MixString makes a value of a string.
func MixString(s string) int {
	values := make([]int, len(s))
	for i := range len(s) {
		values[i] = int(s[i])
	}
	return Mix(values...)
}

// ValueOf is what a failure is to code that catches it: made of the names of the tasks
// that it came through, outermost first.
func ValueOf(tasks []string) int {
	v := 1
	for _, name := range tasks {
		v = Mix(v, MixString(name))
	}
	return v
}

// Site names one execution of a statement: the site of the scope, the
// statement, and how often each loop around it has turned.
func Site(scope string, stmt int, turns []int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s/%d", scope, stmt)
	for _, n := range turns {
		fmt.Fprintf(&b, ".%d", n)
	}
	return b.String()
}

// Keyed is the key of a statement at the given turns; "" if it has none.
func (s *Stmt) Keyed(turns []int) string {
	if s.Key == "" {
		return ""
	}
	return Site(s.Key, 0, turns)
}

// String prints the program for people.
func (p *Program) String() string {
	var b strings.Builder
	b.WriteString("entrypoint")
	if p.Attempts > 0 {
		fmt.Fprintf(&b, ", %d attempts", p.Attempts)
	}
	b.WriteString(":\n")
	printBlock(&b, p.Body, 1)
	for _, t := range p.Tasks {
		if !p.calls(t.Name) {
			continue
		}
		kind := "task"
		if t.Nested {
			kind = "nested entrypoint"
		}
		fmt.Fprintf(&b, "%s %s", kind, t.Name)
		if t.Attempts > 0 {
			fmt.Fprintf(&b, ", %d attempts", t.Attempts)
		}
		if t.FailFirst > 0 {
			fmt.Fprintf(&b, ", fails %d times", t.FailFirst)
		}
		if t.Heals > 0 {
			fmt.Fprintf(&b, ", fails before epoch %d", t.Heals)
		}
		if t.Panics {
			b.WriteString(", by a panic")
		}
		b.WriteString("\n")
		printBlock(&b, t.Body, 1)
	}
	return b.String()
}

// calls reports whether some statement names the task.
func (p *Program) calls(task string) bool {
	found := false
	look := func(s *Stmt) { found = found || s.Task == task }
	Walk(p.Body, look)
	for i := range p.Tasks {
		Walk(p.Tasks[i].Body, look)
	}
	return found
}

// Walk calls fn with each statement of a block, those within others too.
func Walk(block []Stmt, fn func(*Stmt)) {
	for i := range block {
		fn(&block[i])
		Walk(block[i].Body, fn)
		Walk(block[i].Else, fn)
	}
}

func printBlock(b *strings.Builder, block []Stmt, depth int) {
	for _, s := range block {
		fmt.Fprintf(b, "%s%d: %s\n", strings.Repeat("  ", depth), s.ID, s.text())
		printBlock(b, s.Body, depth+1)
		if len(s.Else) > 0 {
			fmt.Fprintf(b, "%selse\n", strings.Repeat("  ", depth))
			printBlock(b, s.Else, depth+1)
		}
	}
}

func (s *Stmt) text() string {
	var text string
	switch s.Op {
	case Let:
		return fmt.Sprintf("v%d = %s", s.Var, s.Arg)
	case Call:
		text = fmt.Sprintf("v%d = %s(%s)", s.Var, s.Task, s.Arg)
	case Go:
		text = fmt.Sprintf("f%d = go %s(%s)", s.Future, s.Task, s.Arg)
	case Await:
		text = fmt.Sprintf("v%d = await f%d", s.Var, s.Future)
	case Fan:
		text = fmt.Sprintf("v%d = fan %d %s(%s), await %v", s.Var, s.N, s.Task, s.Arg, s.Order)
	case Group:
		text = fmt.Sprintf("v%d = %d branches", s.Var, s.N)
	case Ask:
		text = fmt.Sprintf("v%d = ask(%s)", s.Var, s.Arg)
	case If:
		return fmt.Sprintf("if even(%s)", s.Arg)
	case Loop:
		return fmt.Sprintf("loop %d times until 3 divides v%d", s.N, s.Var)
	case Fail:
		return "fail, " + wrapNames[s.Wrap]
	case Return:
		return fmt.Sprintf("return %s", s.Arg)
	}
	if s.Key != "" {
		text += fmt.Sprintf(" key %q", s.Key)
	}
	if s.Catch {
		text += " catch"
	}
	return text
}

func (e Expr) String() string {
	if e.Var < 0 {
		return fmt.Sprint(e.Const)
	}
	return fmt.Sprintf("%d, v%d", e.Const, e.Var)
}
