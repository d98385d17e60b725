package engine

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/fermata-go/fermata/storage"
)

// maxLabel bounds what questions are found by, in bytes: it is part of indexes.
const maxLabel = 1000

// textProblem says why a text would not come back from every backend as it is; "" if it would.
func textProblem(text string) string {
	switch {
	case !utf8.ValidString(text):
		return "it is not UTF-8"
	case strings.Contains(text, "\x00"):
		return "it has a NUL"
	}
	return ""
}

// check refuses a question with texts that some backend could not keep, so that it is the same on all of them.
func (a *Ask) check() error {
	for _, text := range []struct{ what, text string }{{"title", a.Details.Title}, {"description", a.Details.Description}} {
		if problem := textProblem(text.text); problem != "" {
			return badText(text.what, text.text, problem)
		}
	}
	for _, labels := range []struct {
		what  string
		texts []string
	}{{"key", []string{a.Key}}, {"unique key", []string{a.Unique}}, {"tag", a.Tags}, {"user", a.Users}, {"group", a.Groups}, {"excluded subject", a.NotBy}} {
		for _, text := range labels.texts {
			problem := textProblem(text)
			if problem == "" && len(text) > maxLabel {
				problem = fmt.Sprintf("it is longer than %d bytes", maxLabel)
			}
			if problem != "" {
				return badText(labels.what, text, problem)
			}
		}
	}
	return nil
}

func badText(what, text, problem string) error {
	return fmt.Errorf("%s %.80q of a question: %s", what, text, problem)
}

// checkPrincipal refuses who may not settle questions.
func checkPrincipal(op string, by *storage.Principal, key string) error {
	refuse := func(err error, hint string) error {
		return &Error{Op: op, Reason: ErrInvalid, Err: err, Hint: hint}
	}
	switch by.Kind {
	case "person", "policy":
	default:
		return refuse(fmt.Errorf("%s by a principal of kind %q", op, by.Kind), `say "person" or "policy"; a timeout is the engine's own`)
	}
	for _, text := range append([]string{by.Subject, by.OnBehalfOf, by.Method, key}, by.Groups...) {
		if problem := textProblem(text); problem != "" {
			return refuse(fmt.Errorf("%.80q of the principal or the idempotency key: %s", text, problem), "give names as UTF-8 without NUL")
		}
	}
	return nil
}
