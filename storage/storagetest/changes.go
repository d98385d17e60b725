package storagetest

import (
	"fmt"
	"time"

	"github.com/fermata-go/fermata/storage"
)

var changesCases = []testCase{
	{"ComeInOrderAsTheyAreNow", changesOrder},
	{"EveryKindOfChange", changesKinds},
	{"NothingIsMissedUnderConcurrency", changesConcurrent},
}

func (w *world) changes(after int64, limit int) []storage.Question {
	w.Helper()
	list, err := w.b.QuestionChanges(w.ctx, tenant, after, limit)
	w.ok(err, "QuestionChanges")
	w.true(len(list) <= limit, "%d changes for the limit %d", len(list), limit)
	for _, q := range list {
		w.true(q.Change > after, "the change %d follows %d", q.Change, after)
		after = q.Change
	}
	return list
}

func changesOrder(w *world) {
	r := w.running(w.join())
	asked := w.ask(&r, storage.Question{Name: "a"}, storage.Question{Name: "b"}, storage.Question{Name: "c"})
	all := w.changes(0, 100)
	w.true(len(all) == 3, "%d changes, want 3", len(all))
	w.settle(answer(asked[1], "yes"))
	last := all[2].Change
	got := w.changes(last, 100)
	same(w, "changes after the answer", got, []storage.Question{w.state(asked[1], storage.Answered)})
	// Each question is there once, where it was changed last.
	same(w, "all changes", questionNames(w.changes(0, 100)), append(questionNames(except(all, asked[1].ID)), "b"))
	same(w, "the first two", w.changes(0, 2), except(all, asked[1].ID))
	same(w, "nothing new", w.changes(got[0].Change, 100), nil)
}

func except(list []storage.Question, id storage.ID) []storage.Question {
	var rest []storage.Question
	for _, q := range list {
		if q.ID != id {
			rest = append(rest, q)
		}
	}
	return rest
}

func changesKinds(w *world) {
	m := w.join()
	var last int64
	expect := func(what string, want ...storage.QuestionState) {
		w.Helper()
		var got []storage.QuestionState
		for _, q := range w.changes(last, 100) {
			got = append(got, q.State)
			last = q.Change
		}
		same(w, "changes made by "+what, got, want)
	}
	r := w.running(m)
	asked := w.ask(&r, storage.Question{}, storage.Question{Deadline: w.in(time.Hour)}, storage.Question{Group: "g"}, storage.Question{Group: "g"},
		storage.Question{}, storage.Question{})
	expect("asking", storage.Open, storage.Open, storage.Open, storage.Open, storage.Open, storage.Open)
	w.extend(asked[0], w.in(9*time.Hour))
	expect("extending", storage.Open)
	w.clock.advance(2 * time.Hour)
	w.poll(m, 0)
	expect("expiry", storage.Expired)
	w.settle(answer(asked[2], "yes"))
	if got := w.changes(last, 100); len(got) == 2 && got[0].State == storage.Withdrawn {
		expect("an answer in a group", storage.Withdrawn, storage.Answered)
	} else {
		expect("an answer in a group", storage.Answered, storage.Withdrawn)
	}
	w.append(&r, storage.Unit{Close: []storage.ID{asked[4].ID}, CloseState: storage.SupersededQuestion})
	expect("closing", storage.SupersededQuestion)
	w.append(&r, storage.Unit{Status: storage.Failed})
	expect("the end of the run", storage.Withdrawn, storage.Withdrawn)

	waiting, _ := w.waiting(m, storage.Question{})
	expect("asking", storage.Open)
	w.start(storage.Start{Run: storage.Run{Thread: waiting.Thread}, Supersede: true})
	expect("superseding", storage.SupersededQuestion)
	waiting, _ = w.waiting(m, storage.Question{})
	expect("asking", storage.Open)
	w.cancel(waiting, "")
	expect("cancelling", storage.Withdrawn)
}

// changesConcurrent: a reader that follows the feed while 8 others ask and
// answer sees the final state of every question.
func changesConcurrent(w *world) {
	const writers, each = 8, 12
	m := w.join()
	runs := make([]storage.Run, writers)
	for i := range runs {
		runs[i] = w.running(m)
	}
	seen := map[storage.ID]storage.QuestionState{}
	finished := make(chan struct{}, writers)
	concurrently(w, writers+1, func(i int) (int, error) {
		if i < writers {
			defer func() { finished <- struct{}{} }()
			return 0, w.askAndAnswer(runs[i], each)
		}
		var last int64
		for left := writers; ; {
			list, err := w.b.QuestionChanges(w.ctx, tenant, last, 5)
			if err != nil {
				return 0, err
			}
			for _, q := range list {
				if q.Change <= last {
					return 0, fmt.Errorf("the change %d follows %d", q.Change, last)
				}
				last = q.Change
				seen[q.ID] = q.State
			}
			if len(list) > 0 {
				continue
			}
			if left == 0 {
				return 0, nil // nothing is left, and nobody writes
			}
			select {
			case <-finished:
				left--
			default:
			}
		}
	})
	answered := 0
	for id, state := range seen {
		w.true(state == storage.Answered, "the last that was seen of question %s is %s", id, state)
		answered++
	}
	w.true(answered == writers*each, "%d of %d questions were seen", answered, writers*each)
}

// askAndAnswer opens questions of one run, one after the other, and answers each.
func (w *world) askAndAnswer(r storage.Run, n int) error {
	for range n {
		u := unit(r, storage.Unit{Questions: []storage.Question{{ID: w.newID()}}})
		list, err := w.b.Append(w.ctx, []storage.Unit{u})
		if err == nil {
			err = list[0].Err
		}
		if err != nil {
			return err
		}
		r.LastSeq++
		for {
			got, err := w.b.Settle(w.ctx, []storage.Settlement{answer(u.Questions[0], "yes")})
			if err == nil {
				err = got[0].Err
			}
			if err == nil {
				break
			}
			if !again(err) {
				return err
			}
		}
	}
	return nil
}
