package engine

import (
	"encoding/binary"
	"fmt"

	"github.com/fermata-go/fermata/storage"
)

// recordKind is the first byte of a record.
type recordKind byte

const (
	recordClaim   recordKind = iota + 1 // a call was made
	recordOutcome                       // a call ended
	recordAsk                           // the question of an earlier claim was asked anew
	recordTaken                         // the settled question of a claim was handed to the code
	recordPause                         // the run came to rest at questions or until a time
	recordReturn                        // the body returned while tasks were still running
	recordEnd                           // the run ended; the result is in the run's row
	recordAttempt                       // a new attempt of a scope
	recordVersion                       // the version of a change that the run is on
	recordRepair                        // somebody repaired the run
	recordAccept                        // the record of a claim stands, whatever the code calls there
	recordRefusal                       // the question of a claim was not asked; without a name: it was
	recordRemind                        // a reminder of the question of a claim was due
	recordUsed                          // the approval of a claim was spent on another claim
)

// Kind is what a claimed call is.
type Kind byte

// The kinds of calls.
const (
	KindTask Kind = iota + 1
	KindQuestion
	KindEntrypoint // a nested entrypoint
	KindBranch     // of a group
	KindSleep
	KindVersion
	KindValue // a value computed by the engine, as the winner of First
)

var kindNames = [...]string{"", "task", "question", "entrypoint", "branch", "sleep", "version", "value"}

// String returns the lower-case name of the kind.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// record is a decoded record; which fields count depends on its kind.
type record struct {
	kind recordKind

	// recordClaim
	scope   int64 // the claim that opened the scope of the call; 0: the body
	call    Kind
	name    string
	key     string
	witness []byte
	site    string

	// recordOutcome, recordAsk, recordTaken, recordAccept, recordRefusal, recordRemind, recordUsed: of which claim;
	// recordAttempt: of which scope
	claim int64
	// recordOutcome: when, in milliseconds since the run was made; recordVersion: the version of the change name;
	// recordRemind: how many reminders were due by now; recordUsed: the claim that may run
	at int64
	// recordOutcome, recordReturn
	failed bool
	cached bool
	data   []byte
	// recordPause: Seq of the open questions, in call order
	open []int64
	// recordEnd
	status storage.Status
	// recordAttempt: number of the attempt (the first try is 1), how many of those before it the retry policy
	// doesn't count, claims whose outcome is superseded, and the last claim of the scope that is kept
	attempt int
	spent   int
	retry   []int64
	cut     int64
}

const (
	flagFailed = 1 << iota
	flagCached
)

// sites numbers the call sites of a run, so that each is stored once.
type sites struct {
	index map[string]int
	names []string
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendInts(b []byte, ints []int64) []byte {
	b = binary.AppendUvarint(b, uint64(len(ints)))
	for _, n := range ints {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return b
}

// encode returns the bytes of r, and adds its call site to s.
func (r *record) encode(s *sites) []byte {
	b := make([]byte, 0, 16+len(r.name)+len(r.key)+len(r.witness)+len(r.data))
	b = append(b, byte(r.kind))
	switch r.kind {
	case recordClaim:
		b = append(b, byte(r.call))
		b = binary.AppendUvarint(b, uint64(r.scope))
		b = appendString(b, r.name)
		b = appendString(b, r.key)
		n, known := s.index[r.site]
		if !known {
			n = len(s.names)
			s.add(r.site)
		}
		b = binary.AppendUvarint(b, uint64(n))
		if !known {
			b = appendString(b, r.site)
		}
		b = append(b, r.witness...)
	case recordOutcome, recordReturn:
		var flags byte
		if r.failed {
			flags |= flagFailed
		}
		if r.cached {
			flags |= flagCached
		}
		b = append(b, flags)
		b = binary.AppendUvarint(b, uint64(r.claim))
		b = binary.AppendUvarint(b, uint64(max(0, r.at)))
		b = append(b, r.data...)
	case recordRepair:
		b = appendString(b, r.name)
		b = append(b, r.data...)
	case recordAsk, recordTaken, recordAccept:
		b = binary.AppendUvarint(b, uint64(r.claim))
	case recordRefusal:
		b = binary.AppendUvarint(b, uint64(r.claim))
		b = appendString(b, r.name)
		b = append(b, r.data...)
	case recordRemind, recordUsed:
		b = binary.AppendUvarint(b, uint64(r.claim))
		b = binary.AppendUvarint(b, uint64(r.at))
	case recordPause:
		b = appendInts(b, r.open)
	case recordEnd:
		b = append(b, byte(r.status))
	case recordVersion:
		b = appendString(b, r.name)
		b = binary.AppendVarint(b, r.at)
	case recordAttempt:
		b = binary.AppendUvarint(b, uint64(r.claim))
		b = binary.AppendUvarint(b, uint64(r.attempt))
		b = binary.AppendUvarint(b, uint64(r.cut))
		b = appendInts(b, r.retry)
		b = binary.AppendUvarint(b, uint64(r.spent))
	}
	return b
}

func (s *sites) add(site string) {
	if s.index == nil {
		s.index = map[string]int{}
	}
	s.index[site] = len(s.names)
	s.names = append(s.names, site)
}

// reader takes a record apart; after its first fault everything it returns is zero.
type reader struct {
	rest []byte
	bad  bool
}

func (d *reader) byte() byte {
	if len(d.rest) == 0 {
		d.bad = true
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *reader) uint() int64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 || v > 1<<62 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return int64(v)
}

func (d *reader) int() int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *reader) string() string {
	n := d.uint()
	if d.bad || n > int64(len(d.rest)) {
		d.bad, d.rest = true, nil
		return ""
	}
	s := string(d.rest[:n])
	d.rest = d.rest[n:]
	return s
}

func (d *reader) ints() []int64 {
	n := d.uint()
	if d.bad || n > int64(len(d.rest)) { // each takes a byte at least
		d.bad, d.rest = true, nil
		return nil
	}
	ints := make([]int64, n)
	for i := range ints {
		ints[i] = d.uint()
	}
	return ints
}

// decodeRecord is the inverse of encode, given the sites of the records before.
// Bytes that are no record: [storage.ErrCorrupt].
func decodeRecord(data []byte, s *sites) (record, error) {
	d := reader{rest: data}
	r := record{kind: recordKind(d.byte())}
	switch r.kind {
	case recordClaim:
		r.call = Kind(d.byte())
		r.scope = d.uint()
		r.name = d.string()
		r.key = d.string()
		switch n := d.uint(); {
		case n < int64(len(s.names)):
			r.site = s.names[n]
		case n == int64(len(s.names)) && !d.bad:
			r.site = d.string()
			s.add(r.site)
		default:
			d.bad = true
		}
		r.witness = d.rest
		if r.call < KindTask || r.call > KindValue {
			d.bad = true
		}
	case recordOutcome, recordReturn:
		flags := d.byte()
		r.failed, r.cached = flags&flagFailed != 0, flags&flagCached != 0
		r.claim = d.uint()
		r.at = d.uint()
		r.data = d.rest
	case recordRepair:
		r.name = d.string()
		r.data = d.rest
	case recordAsk, recordTaken, recordAccept:
		r.claim = d.uint()
	case recordRefusal:
		r.claim = d.uint()
		r.name = d.string()
		r.data = d.rest
	case recordRemind, recordUsed:
		r.claim = d.uint()
		r.at = d.uint()
	case recordPause:
		r.open = d.ints()
	case recordEnd:
		r.status = storage.Status(d.byte())
	case recordVersion:
		r.name = d.string()
		r.at = d.int()
	case recordAttempt:
		r.claim = d.uint()
		r.attempt = int(d.uint())
		r.cut = d.uint()
		r.retry = d.ints()
		r.spent = int(d.uint())
	default:
		d.bad = true
	}
	if d.bad {
		return record{}, fmt.Errorf("%w: no record in %d bytes beginning %.16x", storage.ErrCorrupt, len(data), data)
	}
	return r, nil
}
