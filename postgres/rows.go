package postgres

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/fermata-go/fermata/storage"
)

// The tables' rows come as composite values, their fields in the order of the
// migrations. What comes after the last field read here belongs to a newer version.

// storedRun is a row of the table run.
type storedRun struct {
	storage.Run
	n    int64
	born int64
}

func readRun(r *row) (storedRun, error) {
	var s storedRun
	if r == nil {
		return s, fmt.Errorf("%w: a run is missing", storage.ErrCorrupt)
	}
	s.n = r.int8()
	s.Number = s.n
	s.Token = r.int8()
	s.LastSeq = r.int8()
	s.Inbox = r.int8()
	s.Step = r.int8()
	s.ForkSeq = r.int8()
	s.born = r.int8()
	_ = r.int8() // taken
	s.Created = r.time()
	s.Updated = r.time()
	s.Due = r.time()
	_ = r.time() // ready
	s.ID = r.uuid()
	s.Owner = r.uuid()
	s.Parent.Run = r.uuid()
	s.Previous = r.uuid()
	s.Status = storage.Status(r.int2())
	s.Source = storage.Source(r.int2())
	s.Crashes = max(0, r.int2())
	s.Parent.End = r.bool()
	s.CancelRequested = r.bool()
	s.Tenant = r.text()
	s.Thread = r.text()
	s.Entrypoint = r.text()
	s.CancelReason = r.text()
	s.Metadata = readMetadata(r)
	s.Input = r.bytes()
	s.Config = r.bytes()
	s.Result = r.bytes()
	s.Saved = r.bytes()
	s.Error = r.bytes()
	copied, err := storage.UnpackParts(r.bytes())
	s.Copied = copied
	if r.err == nil {
		r.err = err
	}
	if r.err != nil {
		return s, fmt.Errorf("run %s: %w", s.ID, r.err)
	}
	return s, nil
}

// readQuestion reads a row of the table question. What it has of its run and the schema are the caller's to fill.
func readQuestion(r *row) (storage.Question, error) {
	var q storage.Question
	if r == nil {
		return q, fmt.Errorf("%w: a question is missing", storage.ErrCorrupt)
	}
	_ = r.int8() // run_n
	q.Seq = r.int8()
	q.Change = r.int8()
	q.Asked = r.time()
	q.Deadline = r.time()
	q.Settled = r.time()
	_ = r.int8() // attempt
	q.Priority = int(r.int8())
	_ = r.int4() // schema_n
	q.ID = r.uuid()
	q.State = storage.QuestionState(r.int2())
	q.Tenant = r.text()
	q.Path = r.text()
	q.Name = r.text()
	q.Key = r.text()
	q.Group = r.text()
	q.Unique = r.text()
	q.AnswerKey = r.text()
	for _, a := range r.texts() {
		if name, ok := strings.CutPrefix(a, "u"); ok {
			q.Users = append(q.Users, name)
		} else if name, ok := strings.CutPrefix(a, "g"); ok {
			q.Groups = append(q.Groups, name)
		} else {
			r.fail("an audience is neither user nor group")
		}
	}
	q.NotBy = r.texts()
	q.Tags = r.texts()
	if by := r.jsonb(); by != nil {
		if err := json.Unmarshal(by, &q.By); err != nil {
			r.fail("who settled it is not readable: " + err.Error())
		}
	}
	q.Payload = r.bytes()
	q.Digest = r.bytes()
	q.Details = r.bytes()
	q.Answer = r.bytes()
	if r.err != nil {
		return q, fmt.Errorf("question %s: %w", q.ID, r.err)
	}
	return q, nil
}

// questionColumns is what readFullQuestion reads; the tables are named q, r and a.
const questionColumns = `q, r.id, r.thread, r.entrypoint, a.data`

const questionTables = `SCHEMA.question q JOIN SCHEMA.run r ON r.n = q.run_n LEFT JOIN SCHEMA.answer_schema a ON a.n = q.schema_n`

func readFullQuestion(r *row) (storage.Question, error) {
	q, err := readQuestion(r.composite())
	q.Run = r.uuid()
	q.Thread = r.text()
	q.Entrypoint = r.text()
	q.Schema = r.bytes()
	if err == nil {
		err = r.err
	}
	return q, err
}

func readMetadata(r *row) map[string]string {
	text := r.jsonb()
	if text == nil {
		return nil
	}
	var m map[string]string
	if err := json.Unmarshal(text, &m); err != nil {
		r.fail("metadata are not readable: " + err.Error())
	}
	return m
}

// metadataText is the JSON of metadata, "" if there are none.
func metadataText(m map[string]string) string {
	if len(m) == 0 {
		return ""
	}
	text, err := json.Marshal(m)
	if err != nil {
		panic(err) // a map of strings always encodes
	}
	return string(text)
}

// textsJSON is the JSON of a list of strings, "" for an empty one.
func textsJSON(list []string) string {
	if len(list) == 0 {
		return ""
	}
	text, err := json.Marshal(list)
	if err != nil {
		panic(err) // a list of strings always encodes
	}
	return string(text)
}

func audience(users, groups []string) []string {
	list := make([]string, 0, len(users)+len(groups))
	for _, u := range users {
		list = append(list, "u"+u)
	}
	for _, g := range groups {
		list = append(list, "g"+g)
	}
	return list
}
