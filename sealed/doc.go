// Package sealed keeps what runs and people say secret from whoever can read the
// database: it wraps a backend so that values are sealed with authenticated
// encryption (AES-256-GCM) before they are written, and opened, or refused, when they are read.
//
//	backend, err := sealed.New(inner, sealed.Options{
//		Keys:   []sealed.Key{{ID: "2026-11", Secret: secret}},
//		Lookup: sealed.Key{ID: "lookup", Secret: lookupSecret},
//	})
//	engine, err := fermata.New(backend, nil, workflow)
//
// # What is sealed
//
// Inputs, configurations, results, saved values and errors of runs; every record of their logs (the
// inputs, results, errors and witnesses of tasks); payloads, digests, titles, descriptions and answers of questions;
// reasons of cancellations; values and vectors of the store; keys of cached results; values of metadata; keys and unique keys of
// questions.
//
// Not sealed, because the database orders, selects or counts by it: ids, names of threads, entrypoints,
// tasks' paths and tenants, namespaces and keys of the store, keys of metadata,
// audiences and principals, tags, priorities, deadlines, idempotency keys, schemas of answers, and the sizes of what is sealed. Don't
// put into these what nobody may read.
//
// # Keys
//
// Every value bears the id of its key. To rotate, give the new key to all processes
// behind the old one ({old, new}), then put it first ({new, old}); the old one stays until no thread that
// it sealed is left. What is looked for by equality (metadata, keys of questions) is sealed with
// Options.Lookup, under which equal values look equal, and which is never rotated.
//
// A value that is not sealed is refused ([ErrPlaintext]): who can write to the database
// could otherwise pass a forgery off as an old row. Options.AllowPlaintext accepts
// such values while a database from before is still in use.
//
// A value can't be passed off as one of another kind or another tenant. That somebody with write access puts
// a value back to an older one, or in the place of another of the same kind and tenant, is not found out here; a
// question's answer is bound to what was shown by the digest in the run's log.
package sealed
