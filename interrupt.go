package fermata

import (
	"context"
	"reflect"
	"sync"

	"github.com/fermata-go/fermata/internal/schema"
)

// Interrupt asks a person and returns the answer, of type A.
//
// While there is no answer it returns an error that matches [ErrPaused]: pass it up. When the answer
// comes the function that asked runs again from its first line – its finished tasks are not – and Interrupt returns the answer. Each
// call of Interrupt is a question of its own, also in a loop.
//
// payload is what is shown, and must survive being stored. An answer is checked
// against the JSON Schema of A before the run wakes. (A Validate method of A is not called: for that declare
// the question with [NewQuestion].) It is never delivered to
// a call that shows something else: a changed payload parks the run.
//
// Other errors: [ErrExpired] and [ErrWithdrawn], if the question ended so; [ErrNotUnique] and
// [ErrUnsatisfiable], if it was not asked; [ErrInvalid] for an option;
// *[ValueError] for a payload, and [ErrDefinition] for a type A, that can't be stored.
//
// It is LangGraph's interrupt(value), with one question per call and an id for each.
func Interrupt[A any](ctx context.Context, payload any, options ...AskOption) (A, error) {
	return Inline[A](payload, options...).ask(ctx)
}

var schemas sync.Map // reflect.Type to form

type form struct {
	data []byte
	err  error
}

// schemaOf describes the answers of a type.
func schemaOf(t reflect.Type) ([]byte, error) {
	if known, ok := schemas.Load(t); ok {
		return known.(form).data, known.(form).err
	}
	var f form
	f.err = checkDefinition("answer", t.String(), false, t)
	if f.err == nil {
		if f.data, f.err = schema.For(t); f.err != nil {
			f.err = definitionError("answer", t.String(), f.err)
		}
	}
	schemas.Store(t, f)
	return f.data, f.err
}
