package fermata

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/fermata-go/fermata/internal/engine"
)

// position is the place of a part among all that every reader of the run may see: after a record come its own
// parts, those of the begin of a resumed run, and what the owners of the run emitted until the next record.
type position struct {
	record int64
	token  int64 // of the owner, of what was emitted; else 0
	index  int64 // of what was emitted; else 0, and 1 for the begin
	part   int64 // of one event, from 1
}

func (p position) String() string {
	return fmt.Sprintf("%d.%d.%d.%d", p.record, p.token, p.index, p.part)
}

func (p position) compare(q position) int {
	return cmp.Or(cmp.Compare(p.record, q.record), cmp.Compare(p.token, q.token), cmp.Compare(p.index, q.index), cmp.Compare(p.part, q.part))
}

// parsePosition is the inverse of String.
func parsePosition(s string) (p position, err error) {
	fields := strings.Split(s, ".")
	numbers := []*int64{&p.record, &p.token, &p.index, &p.part}
	for i, n := range numbers {
		if len(fields) == len(numbers) && err == nil {
			*n, err = strconv.ParseInt(fields[i], 10, 64)
		}
	}
	if err != nil || p.String() != s || min(p.record, p.token, p.index, p.part) < 0 {
		return position{}, fmt.Errorf("bad position %.40q", s)
	}
	return p, nil
}

// next is the position before the parts of an event, given that of the part before.
func (p position) next(e engine.Event) position {
	next := position{record: e.Seq, token: e.Token, index: e.Index}
	switch {
	case e.Kind == engine.Began:
		next.index = 1
	case e.Token == 0 && p.token == 0 && p.index == 1 && p.record == e.Seq:
		next.index = 1 // a call that the resumed run makes again
	}
	if next.record == p.record && next.token == p.token && next.index == p.index {
		next.part = p.part
	}
	return next
}
