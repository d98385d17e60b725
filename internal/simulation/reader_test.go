package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/engine"
	"github.com/fermata-go/fermata/internal/simulation/model"
	"github.com/fermata-go/fermata/storage"
)

// reader is a process that only looks at one run.
type reader struct {
	data   storage.Backend
	run    fermata.ID
	engine *engine.Engine
	seen   []event // up to the last check
}

// event is what two readers must agree on.
type event struct {
	Seq  int64
	Kind engine.EventKind
	Path string
	Data string
}

func newReader(data storage.Backend, run fermata.ID) (*reader, error) {
	e, err := engine.New(context.Background(), data, engine.Options{Workers: -1, Name: "reader", Tick: time.Hour})
	if err != nil {
		return nil, err
	}
	return &reader{data: data, run: run, engine: e}, nil
}

func (r *reader) end() error {
	return errors.Join(r.engine.Close(context.Background()), r.data.Close())
}

// events reads what was recorded of the run, which rests, as events.
func (r *reader) events() ([]event, error) {
	var all []event
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for after := int64(0); ; {
		h, err := r.engine.Attach(ctx, "", r.run, after)
		if err != nil {
			return nil, err
		}
		for e, err := range h.Events(ctx) {
			if err != nil {
				return nil, fmt.Errorf("read events: %w", err)
			}
			if e.Kind == engine.Rested {
				after = max(after, e.Seq)
				break
			}
			switch e.Kind {
			case engine.TaskFinished, engine.TaskFailed, engine.Paused, engine.Returned:
			default:
				continue
			}
			if len(all) > 0 && e.Seq <= all[len(all)-1].Seq {
				return nil, fmt.Errorf("event %d comes after event %d", e.Seq, all[len(all)-1].Seq)
			}
			after = e.Seq
			all = append(all, event{e.Seq, e.Kind, e.Path, string(e.Data)})
		}
		if after >= h.Run.LastSeq {
			return all, nil
		}
	}
}

// read reads the run's events again: they continue those that were read before.
func (r *reader) read() error {
	all, err := r.events()
	if err != nil {
		return err
	}
	for i, e := range r.seen {
		if i >= len(all) || all[i] != e {
			return fmt.Errorf("event %+v was read before, and is no more", e)
		}
	}
	r.seen = all
	return nil
}

// results is the number of recorded results in what was read last.
func (r *reader) results() int {
	n := 0
	for _, e := range r.seen {
		if e.Kind == engine.TaskFinished {
			n++
		}
	}
	return n
}

// check holds the stored run against the model: which results were recorded, and that no question is there twice.
func (r *reader) check(run *model.Run) error {
	results := map[model.Result]int{}
	for _, e := range r.seen {
		if e.Kind != engine.TaskFinished {
			continue
		}
		result := model.Result{Path: e.Path}
		if err := json.Unmarshal([]byte(e.Data), &result.Value); err != nil {
			return fmt.Errorf("event %+v: %w", e, err)
		}
		results[result]++
	}
	if !maps.Equal(results, run.Results()) {
		return fmt.Errorf("recorded results:\n%v\nwant:\n%v", results, run.Results())
	}
	asked, err := r.data.ListQuestions(context.Background(), storage.QuestionFilter{Run: r.run, Limit: 1 << 20})
	if err != nil {
		return err
	}
	if len(asked) != run.Asked() {
		return fmt.Errorf("%d questions were asked, want %d", len(asked), run.Asked())
	}
	return nil
}

// over reports whether the run has ended.
func (r *reader) over() bool {
	row, err := r.data.Run(context.Background(), "", r.run)
	return err == nil && !row.Status.Active()
}

// row checks what must hold of a run that rests.
func (r *reader) row() error {
	row, err := r.data.Run(context.Background(), "", r.run)
	if err != nil {
		return err
	}
	if !row.Owner.IsZero() {
		return errors.New("a run that rests has an owner")
	}
	return nil
}
