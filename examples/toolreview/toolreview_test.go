package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fermata-go/fermata"
)

const asked = `book_hotel {"hotel":"McKittrick","nights":2} – accept, edit {…}, or answer …?` + "\n"

func TestReviews(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ typed, want string }{
		"accept": {"accept\n", asked + "Here is your trip: fog in Lund; booked McKittrick for 2 nights.\n"},
		"edit":   {`edit {"hotel":"Plaza","nights":1}` + "\n", asked + "Here is your trip: fog in Lund; booked Plaza for 1 nights.\n"},
		"answer": {"answer no hotel, thanks\n", asked + "Here is your trip: fog in Lund; no hotel, thanks.\n"},
		"a typing error": {
			"acept\nedit\nanswer\naccept\n",
			asked + "the action must be accept, edit or answer, not \"acept\"\n" +
				asked + "the arguments are no JSON object: unexpected end of JSON input\n" +
				asked + "an answer needs text\n" +
				asked + "Here is your trip: fog in Lund; booked McKittrick for 2 nights.\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			if err := run(filepath.Join(t.TempDir(), "test.db"), "1", scripted{}, "a trip to Lund", strings.NewReader(test.typed), &out); err != nil {
				t.Fatal(err)
			}
			if out.String() != test.want {
				t.Errorf("got\n%s\nwant\n%s", out.String(), test.want)
			}
		})
	}
}

func TestGoesOnInAnotherProcess(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "test.db")
	if err := run(db, "1", scripted{}, "a trip to Lund", strings.NewReader(""), io.Discard); err != nil {
		t.Fatal(err)
	}
	if err := run(db, "1", scripted{}, "another trip", strings.NewReader(""), io.Discard); !errors.Is(err, fermata.ErrQuestionOpen) {
		t.Fatalf("a new prompt while people are asked: %v", err)
	}
	var out strings.Builder
	if err := run(db, "1", scripted{}, "", strings.NewReader("accept\n"), &out); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(out.String(), "booked McKittrick for 2 nights.\n") {
		t.Errorf("got %s", out.String())
	}
}

// endpoint is a service on the loopback interface that wants two calls reviewed, and then sums up.
type endpoint struct {
	t        *testing.T
	requests int
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var request struct {
		Model    string
		Messages []struct {
			Role       string
			Content    any
			ToolCallID string `json:"tool_call_id"`
			ToolCalls  []struct {
				ID       string
				Function struct{ Name, Arguments string }
			} `json:"tool_calls"`
		}
		Tools []struct{ Function struct{ Name string } }
	}
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		e.t.Error(err)
	}
	if r.URL.Path != "/v1/chat/completions" || r.Header.Get("Authorization") != "Bearer key" || request.Model != "small" || len(request.Tools) != 2 {
		e.t.Errorf("got %s %s with %+v", r.Method, r.URL.Path, request)
	}
	w.Header().Set("Content-Type", "application/json")
	e.requests++
	if len(request.Messages) == 1 {
		fmt.Fprint(w, `{"id":"1","object":"chat.completion","model":"small","choices":[{"index":0,"finish_reason":"tool_calls","message":{"role":"assistant","content":null,"tool_calls":[
			{"id":"a","type":"function","function":{"name":"book_hotel","arguments":"{\"hotel\":\"Ritz\",\"nights\":9}"}},
			{"id":"b","type":"function","function":{"name":"book_hotel","arguments":"{\"hotel\":\"Inn\",\"nights\":1}"}}]}}]}`)
		return
	}
	var text []string
	for _, m := range request.Messages[1:] {
		for _, call := range m.ToolCalls {
			text = append(text, call.ID+"="+call.Function.Name+call.Function.Arguments)
		}
		if m.Role == "tool" {
			text = append(text, fmt.Sprintf("%s: %v", m.ToolCallID, m.Content))
		}
	}
	content, err := json.Marshal(strings.Join(text, "; "))
	if err != nil {
		e.t.Error(err)
	}
	fmt.Fprintf(w, `{"id":"2","object":"chat.completion","model":"small","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":%s}}]}`, content)
}

func TestModelBehindAnEndpoint(t *testing.T) {
	t.Parallel()
	e := &endpoint{t: t}
	server := httptest.NewServer(e)
	defer server.Close()
	db := filepath.Join(t.TempDir(), "test.db")
	model := newService(server.URL+"/v1", "key", "small")
	if err := run(db, "1", model, "a trip", strings.NewReader("answer too dear\n"), io.Discard); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run(db, "1", model, "", strings.NewReader("accept\n"), &out); err != nil {
		t.Fatal(err)
	}
	const want = `a=book_hotel{"hotel":"Ritz","nights":9}; b=book_hotel{"hotel":"Inn","nights":1}; a: too dear; b: booked Inn for 1 nights` + "\n"
	if !strings.HasSuffix(out.String(), want) {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	if e.requests != 2 {
		t.Errorf("the model was asked %d times, want 2", e.requests)
	}
}

func TestEndpointThatRefuses(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":{"message":"bad key"}}`)
	}))
	defer server.Close()
	_, err := newService(server.URL, "key", "small").Reply(t.Context(), []Message{{Role: "user", Text: "hi"}}, nil)
	if err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("got error %v, want what the service said", err)
	}
}
