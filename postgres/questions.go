package postgres

import (
	"context"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/fermata-go/fermata/storage"
)

// Question implements [storage.Questions].
func (b *Backend) Question(ctx context.Context, tenant string, id storage.ID) (q storage.Question, err error) {
	what, found := fmt.Sprintf("read question %s", id), false
	c := b.call("SELECT o_question, o_run, o_thread, o_entrypoint, o_schema FROM SCHEMA.question_1($1, $2)")
	c.hot = true
	c.text(tenant)
	c.uuid(id)
	err = b.read(ctx, what, func() { found = false }, func(_ int, r *row) (err error) {
		q, err = readFullQuestion(r)
		found = true
		return err
	}, c)
	return q, orNotFound(what, found, err)
}

// ListQuestions implements [storage.Questions]. Open questions come from an index, in every order.
func (b *Backend) ListQuestions(ctx context.Context, f storage.QuestionFilter) (list []storage.Question, err error) {
	c := b.listCall(&f)
	err = b.read(ctx, "list questions", func() { list = nil }, func(_ int, r *row) error {
		q, err := readFullQuestion(r)
		list = append(list, q)
		return err
	}, c)
	return list, err
}

func (b *Backend) listCall(f *storage.QuestionFilter) *call {
	if ofOneRun(f) {
		return b.runCall(f)
	}
	order := orderedBy(f.Order) + ", q.id"
	// The page is found first: only its questions are joined with what else is to be known of them.
	q := b.query("SELECT p.q, r.id, r.thread, r.entrypoint, a.data FROM (SELECT u.q, u.run_n, u.schema_n FROM (")
	for i, part := range partsOf(f) {
		if i > 0 {
			q.end(" UNION ALL ")
		}
		q.begin("(SELECT q, q.run_n, q.schema_n FROM SCHEMA.question q")
		filterQuestions(q, f, part)
		if f.After != nil {
			q.where("("+orderedBy(f.Order)+", q.id) > (", place(f.Order, f.After), ", ", arg{oid: pgtype.UUIDOID, value: f.After.ID[:]}, ")")
		}
		q.end(" ORDER BY "+order+" LIMIT ", int8Arg(pageSize(f.Limit)), ")")
	}
	q.end(") u ORDER BY "+strings.ReplaceAll(order, "q.", "(u.q).")+" LIMIT ", int8Arg(pageSize(f.Limit)))
	q.end(") p JOIN SCHEMA.run r ON r.n = p.run_n LEFT JOIN SCHEMA.answer_schema a ON a.n = p.schema_n ORDER BY " + strings.ReplaceAll(order, "q.", "(p.q)."))
	return q.call()
}

// part is questions that have indexes of their own.
type part int

const (
	whole part = iota
	forEverybody
	forSome
)

// partsOf returns the parts in which the questions are that f may select: open ones of all threads have indexes.
func partsOf(f *storage.QuestionFilter) []part {
	if len(f.States) == 1 && f.States[0] == storage.Open && f.Thread == "" && f.Run.IsZero() {
		return []part{forEverybody, forSome}
	}
	return []part{whole}
}

// The keys of the orders, as the indexes of open questions say them.
const (
	byAsked    = "q.asked"
	byDeadline = "coalesce(q.deadline, 'infinity')"
	byPriority = "(~q.priority)"
)

func orderedBy(order storage.QuestionOrder) string {
	switch order {
	case storage.ByDeadline:
		return byDeadline
	case storage.ByPriority:
		return byPriority
	}
	return byAsked
}

// place is the key of a question as it was on the page before.
func place(order storage.QuestionOrder, q *storage.Question) any {
	switch {
	case order == storage.ByDeadline && q.Deadline.IsZero():
		return "'infinity'"
	case order == storage.ByDeadline:
		return timeArg(q.Deadline)
	case order == storage.ByPriority:
		return int8Arg(^int64(q.Priority))
	}
	return timeArg(q.Asked)
}

// ofOneRun reports whether f asks for nothing but what one run asks, as the engine does at every pause.
func ofOneRun(f *storage.QuestionFilter) bool {
	rest := *f
	rest.Tenant, rest.Run, rest.States, rest.Limit = "", storage.ID{}, nil, 0
	return !f.Run.IsZero() && reflect.ValueOf(rest).IsZero()
}

func (b *Backend) runCall(f *storage.QuestionFilter) *call {
	c := b.call("SELECT o_question, o_run, o_thread, o_entrypoint, o_schema FROM SCHEMA.run_questions_1($1, $2, $3, $4)")
	c.hot = true
	c.text(f.Tenant)
	c.uuid(f.Run)
	states := smallsArg(f.States)
	if len(f.States) == 0 {
		states.value = nil
	}
	c.add(states.oid, states.value)
	c.int8(pageSize(f.Limit))
	return c
}

// CountQuestions implements [storage.Questions].
func (b *Backend) CountQuestions(ctx context.Context, f storage.QuestionFilter) (counts map[storage.QuestionState]int, err error) {
	// Of one state the rows need not be read to count them, if an index of open questions suffices.
	what, group := "q.state", " GROUP BY q.state"
	if len(f.States) == 1 {
		what, group = strconv.Itoa(int(f.States[0]))+"::smallint", ""
	}
	q := b.query("")
	for i, part := range partsOf(&f) {
		if i > 0 {
			q.end(" UNION ALL ")
		}
		q.begin("SELECT " + what + ", count(*) FROM SCHEMA.question q")
		filterQuestions(q, &f, part)
		q.end(group)
	}
	err = b.read(ctx, "count questions", func() { counts = map[storage.QuestionState]int{} }, func(_ int, r *row) error {
		state := storage.QuestionState(r.int2())
		if n := int(r.int8()); n > 0 {
			counts[state] += n
		}
		return r.err
	}, q.call())
	return counts, err
}

// filterQuestions adds the conditions of a filter on question q of a part, and joins its run r if need be.
func filterQuestions(q *query, f *storage.QuestionFilter, p part) {
	ofRun := f.Thread != "" || !f.Run.IsZero() || f.Entrypoint != ""
	if ofRun {
		q.end(" JOIN SCHEMA.run r ON r.n = q.run_n")
		q.where("r.tenant = ", textArg(f.Tenant))
	}
	// Before a table is analyzed all indexes look the same to the planner. Those of a tenant's
	// questions must not be used for what a run or a thread asks: "is true" keeps them out.
	isTrue := ""
	if f.Thread != "" || !f.Run.IsZero() {
		isTrue = " IS TRUE"
	}
	q.where("(q.tenant = ", textArg(f.Tenant), ")"+isTrue)
	switch {
	case len(f.States) == 1 && f.States[0] == storage.Open:
		q.where("(q.state = 1)" + isTrue) // as the indexes of open questions say it
	case len(f.States) > 0:
		q.where("q.state = ANY ", smallsArg(f.States))
	}
	if f.Thread != "" {
		q.where("r.thread = ", textArg(f.Thread))
	}
	if !f.Run.IsZero() {
		q.where("r.id = ", arg{oid: pgtype.UUIDOID, value: f.Run[:]})
	}
	if f.Entrypoint != "" {
		q.where("r.entrypoint = ", textArg(f.Entrypoint))
	}
	if f.Name != "" {
		q.where("q.name = ", textArg(f.Name))
	}
	if f.Key != "" {
		q.where("q.key = ", textArg(f.Key))
	}
	if len(f.Tags) > 0 {
		q.where("q.tags @> ", textsArg(f.Tags))
	}
	if !f.DueBefore.IsZero() {
		// The first finds them in the index, the second tells the planner, which knows the column, how many there are.
		q.where(byDeadline+" < ", timeArg(f.DueBefore), " AND q.deadline < ", timeArg(f.DueBefore))
	}
	switch p {
	case forEverybody:
		q.where("q.audience IS NULL")
	case forSome:
		q.where("q.audience IS NOT NULL")
	}
	if f.MinPriority != nil {
		q.where(byPriority+" <= ", int8Arg(^int64(*f.MinPriority)), " AND q.priority >= ", int8Arg(int64(*f.MinPriority))) // see above
	}
	if f.For != nil {
		answers := textsArg(audience([]string{f.For.Subject}, f.For.Groups))
		switch p {
		case whole:
			q.where("q.audience IS NULL OR q.audience && ", answers)
		case forSome:
			q.where("q.audience && ", answers)
		}
		switch {
		case f.For.Subject == "":
			q.where("q.not_by IS NULL")
		case f.For.OnBehalfOf != "":
			q.where("q.not_by IS NULL OR NOT q.not_by && ", textsArg([]string{f.For.Subject, f.For.OnBehalfOf}))
		default:
			q.where("q.not_by IS NULL OR NOT q.not_by @> ", textsArg([]string{f.For.Subject}))
		}
	}
}

func timeArg(t time.Time) arg { return arg{oid: pgtype.TimestamptzOID, value: wireTime(t)} }

// QuestionChanges implements [storage.Questions]. A change whose transaction,
// or an earlier one's, is not committed yet is left for later.
func (b *Backend) QuestionChanges(ctx context.Context, tenant string, after int64, limit int) (list []storage.Question, err error) {
	// The horizon must be known before the snapshot of the rows is taken: two statements of one transaction.
	horizon := b.call("SELECT set_config('fermata.horizon', SCHEMA.change_horizon_1()::text, true)")
	rows := b.call("SELECT " + questionColumns + " FROM " + questionTables +
		" WHERE q.tenant = $1 AND q.change > $2 AND q.change <= current_setting('fermata.horizon')::bigint ORDER BY q.change LIMIT $3")
	rows.text(tenant)
	rows.int8(after)
	rows.int8(pageSize(limit))
	err = b.read(ctx, "read changes of questions", func() { list = nil }, func(i int, r *row) error {
		if i == 0 {
			return nil
		}
		q, err := readFullQuestion(r)
		list = append(list, q)
		return err
	}, horizon, rows)
	return list, err
}
