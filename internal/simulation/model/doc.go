// Package model says what a workflow must do: a plain, sequential interpreter
// of programs that are data. It imports nothing of fermata, so what both agree
// on is not agreed by sharing code.
//
// A program is interpreted in passes, as an engine does: each from the first
// line, with the record of the passes before. The model's record is exact where it is
// compared, when a run rests: then no call is under way, and which
// calls are recorded doesn't depend on crashes or on the order in which parallel tasks ended.
//
// What a leaf task returned is not computed but asked of the [World]: the
// simulation gives each execution a number of its own as result, so that a
// result delivered to another call, or computed again, makes another value.
package model
