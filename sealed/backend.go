package sealed

import (
	"context"
	"errors"
	"fmt"

	"github.com/fermata-go/fermata/storage"
)

// Options are the keys of a [Backend].
type Options struct {
	// Keys open what they sealed; the first one seals. At least one, each with its own id.
	Keys []Key
	// Lookup seals what is looked for by equality; see the package's text. Required.
	Lookup Key
	// AllowPlaintext accepts values that are not sealed. They stay as they are until they are written again.
	AllowPlaintext bool
}

// Backend is a backend whose values are sealed. What it doesn't seal goes through as it is.
type Backend struct {
	storage.Backend
	ring keyring
	all  []*sealer // of Options.Keys, in their order
}

var _ storage.Backend = (*Backend)(nil)

// New seals what goes to inner. Closing the result closes inner.
// Error: storage.ErrInvalid, for a key that can't be used.
func New(inner storage.Backend, options Options) (*Backend, error) {
	b := &Backend{Backend: inner, ring: keyring{byID: map[string]*sealer{}, lenient: options.AllowPlaintext}}
	if inner == nil {
		return nil, fmt.Errorf("sealed: %w: no backend to seal", storage.ErrInvalid)
	}
	if len(options.Keys) == 0 {
		return nil, fmt.Errorf("sealed: %w: no keys", storage.ErrInvalid)
	}
	for i, k := range append([]Key{options.Lookup}, options.Keys...) {
		s, err := newSealer(k)
		if err != nil {
			if i == 0 {
				err = fmt.Errorf("%w (Options.Lookup)", err)
			}
			return nil, err
		}
		if b.ring.byID[k.ID] != nil {
			return nil, fmt.Errorf("sealed: %w: two keys have the id %q", storage.ErrInvalid, k.ID)
		}
		b.ring.byID[k.ID] = s
		if i == 0 {
			b.ring.lookup = s
		} else {
			b.all = append(b.all, s)
		}
	}
	b.ring.current = b.all[0]
	return b, nil
}

// Starter makes runs; see fermata.Via.
type Starter interface {
	Start(ctx context.Context, s storage.Start) (storage.Started, error)
}

// Via seals what starts through s, a part of the wrapped backend, as its In gives it for a transaction of the program.
func (b *Backend) Via(s Starter) Starter { return via{b, s} }

type via struct {
	b *Backend
	s Starter
}

func (v via) Start(ctx context.Context, s storage.Start) (storage.Started, error) {
	return v.b.start(ctx, v.s, s)
}

// opened is an error of the inner backend that carries a row, which is opened here.
type opened struct {
	error
	row error // found before the original by errors.As
}

func (o *opened) Unwrap() []error { return []error{o.row, o.error} }

// failure opens the row that an error carries.
func (b *Backend) failure(tenant string, err error) error {
	var busy *storage.BusyError
	if errors.As(err, &busy) {
		row := *busy
		if openErr := b.openRun(&row.Run); openErr != nil {
			return errors.Join(err, openErr)
		}
		return &opened{err, &row}
	}
	var settled *storage.SettledError
	if errors.As(err, &settled) {
		row := *settled
		if openErr := b.openQuestion(&row.Question); openErr != nil {
			return errors.Join(err, openErr)
		}
		return &opened{err, &row}
	}
	var unique *storage.UniqueError
	if errors.As(err, &unique) {
		row := *unique
		if key, openErr := b.ring.openText(spot{"unique key", tenant}, row.Key); openErr == nil {
			row.Key = key
		}
		return &opened{&row, &row}
	}
	return err
}
