package fermata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/fermata-go/fermata/internal/schema"
)

// HumanInterrupt is LangGraph's request of the agent inbox: one action, and
// what a person may do about it. [AskHuman] shows it.
type HumanInterrupt struct {
	ActionRequest ActionRequest        `json:"action_request"`
	Config        HumanInterruptConfig `json:"config"`
	Description   string               `json:"description,omitempty"` // Markdown
}

// ActionRequest is an action by name.
type ActionRequest struct {
	Action string         `json:"action"`
	Args   map[string]any `json:"args"`
}

// HumanInterruptConfig says which types of [HumanResponse] are allowed.
type HumanInterruptConfig struct {
	AllowIgnore  bool `json:"allow_ignore"`
	AllowRespond bool `json:"allow_respond"`
	AllowEdit    bool `json:"allow_edit"`
	AllowAccept  bool `json:"allow_accept"`
}

// HumanResponse answers a [HumanInterrupt].
type HumanResponse struct {
	// Type is "accept", "ignore", "response" or "edit".
	Type string `json:"type"`
	// Args is for "edit" an object {"action", "args"} with edited values, see [HumanResponse.Edited]; for
	// "response" a string; for "ignore" null; for "accept" null or the very request.
	Args any `json:"args"`
}

// Edited returns the action of an "edit"; of another response ok is false.
func (r HumanResponse) Edited() (action ActionRequest, ok bool) {
	if r.Type != "edit" {
		return action, false
	}
	data, err := json.Marshal(r.Args)
	if err != nil {
		return action, false
	}
	var raw map[string]json.RawMessage
	if json.Unmarshal(data, &raw) != nil || len(raw) != 2 || raw["action"] == nil || raw["args"] == nil {
		return action, false
	}
	if json.Unmarshal(data, &action) != nil || action.Action == "" || action.Args == nil {
		return ActionRequest{}, false
	}
	return action, true
}

// HumanResponses is the answer to [AskHuman] as it is sent: a list of one.
type HumanResponses []HumanResponse

// ValidateFor refuses what the request doesn't allow.
func (r HumanResponses) ValidateFor(requests []HumanInterrupt) error {
	if len(r) != 1 || len(requests) != 1 {
		return fmt.Errorf("must be a list of 1 response, not of %d", len(r))
	}
	response, config := r[0], requests[0].Config
	allowed := map[string]bool{
		"accept": config.AllowAccept, "ignore": config.AllowIgnore, "response": config.AllowRespond, "edit": config.AllowEdit,
	}
	is, known := allowed[response.Type]
	fault := func(pointer, message string) error {
		return &AnswerError{Fields: []FieldError{{Pointer: pointer, Message: message}}}
	}
	switch {
	case !known:
		return fault("/0/type", "unsupported interrupt response type: "+response.Type)
	case !is:
		return fault("/0/type", response.Type+" is not allowed for this action")
	}
	switch response.Type {
	case "accept":
		if response.Args != nil && !sameJSON(response.Args, requests[0].ActionRequest) {
			return fault("/0/args", "must be null or the request: another action is an edit")
		}
	case "ignore":
		if response.Args != nil {
			return fault("/0/args", "must be null")
		}
	case "response":
		if _, ok := response.Args.(string); !ok {
			return fault("/0/args", "must be text")
		}
	case "edit":
		if _, ok := response.Edited(); !ok {
			return fault("/0/args", "must be an object with action and args")
		}
	}
	return nil
}

// sameJSON reports whether two values are the same as JSON.
func sameJSON(a, b any) bool {
	var values [2]any
	for i, v := range []any{a, b} {
		data, err := json.Marshal(v)
		if err != nil || json.Unmarshal(data, &values[i]) != nil {
			return false
		}
	}
	return reflect.DeepEqual(values[0], values[1])
}

// JSONSchema narrows the answer to a list of one response.
func (HumanResponses) JSONSchema() []byte {
	return []byte(`{"type":"array","minItems":1,"maxItems":1,"items":{"type":"object","properties":{` +
		`"type":{"type":"string","enum":["accept","ignore","response","edit"]},"args":{}},"required":["type","args"],"additionalProperties":false}}`)
}

var humanInterrupt = NewQuestion[[]HumanInterrupt, HumanResponses]("human_interrupt")

// AskHuman asks with LangGraph's HumanInterrupt, and returns its HumanResponse: user interfaces for
// the agent inbox render it. Both are sent as lists of one. Errors are those of [QuestionType.Ask].
func AskHuman(ctx context.Context, request HumanInterrupt, options ...AskOption) (HumanResponse, error) {
	responses, err := humanInterrupt.Ask(ctx, []HumanInterrupt{request}, options...)
	if err != nil {
		return HumanResponse{}, err
	}
	return responses[0], nil
}

// ReviewRequest is the request of LangChain's human-in-the-loop middleware:
// several actions, each to be decided. [AskReview] shows it.
type ReviewRequest struct {
	ActionRequests []ReviewAction `json:"action_requests"`
	ReviewConfigs  []ReviewConfig `json:"review_configs"`
}

// ReviewAction is an action to be decided.
type ReviewAction struct {
	Name        string         `json:"name"`
	Args        map[string]any `json:"args"`
	Description string         `json:"description,omitempty"`
}

// ReviewConfig says which decisions an action allows.
type ReviewConfig struct {
	ActionName string `json:"action_name"`
	// AllowedDecisions are of "approve", "edit" and "reject".
	AllowedDecisions []string `json:"allowed_decisions"`
	// ArgsSchema is the JSON Schema of edited arguments; nil: any object.
	ArgsSchema json.RawMessage `json:"args_schema,omitempty"`
}

// ReviewDecisions answers a [ReviewRequest]: one decision per action, in order.
type ReviewDecisions struct {
	Decisions []ReviewDecision `json:"decisions"`
}

// ReviewDecision is what becomes of one action.
type ReviewDecision struct {
	// Type is "approve", "edit" or "reject".
	Type string `json:"type"`
	// EditedAction goes with "edit".
	EditedAction *EditedAction `json:"edited_action,omitempty"`
	// Message may go with "reject".
	Message string `json:"message,omitempty"`
}

// EditedAction is an action to be done instead. It may be another one by name, unless a
// config says that one can't be approved.
type EditedAction struct {
	Name string         `json:"name"`
	Args map[string]any `json:"args"`
}

// config finds what an action allows; an action without a config allows all.
func (r *ReviewRequest) config(action string) ReviewConfig {
	if c := r.own(action); c != nil {
		return *c
	}
	return ReviewConfig{ActionName: action, AllowedDecisions: []string{"approve", "edit", "reject"}}
}

// own is the config of an action; nil if it has none.
func (r *ReviewRequest) own(action string) *ReviewConfig {
	for i := range r.ReviewConfigs {
		if r.ReviewConfigs[i].ActionName == action {
			return &r.ReviewConfigs[i]
		}
	}
	return nil
}

// checkEdit refuses an action that is none, and one that nobody could have approved.
func (r *ReviewRequest) checkEdit(config ReviewConfig, edited *EditedAction, fault func(pointer, message string)) error {
	if edited.Name == "" {
		fault("/edited_action/name", "must not be empty")
		return nil
	}
	if edited.Args == nil {
		fault("/edited_action/args", "must be an object")
		return nil
	}
	if other := r.own(edited.Name); other != nil && edited.Name != config.ActionName {
		if !slices.Contains(other.AllowedDecisions, "approve") {
			fault("/edited_action/name", edited.Name+" can't be approved")
			return nil
		}
		config = *other
	}
	if config.ArgsSchema == nil {
		return nil
	}
	args, err := json.Marshal(edited.Args)
	if err != nil {
		return err
	}
	var invalid *schema.Error
	if err := schema.Validate(config.ArgsSchema, args); errors.As(err, &invalid) {
		for _, f := range invalid.Fields {
			fault("/edited_action/args"+f.Pointer, f.Message)
		}
	} else if err != nil {
		fault("/edited_action/args", err.Error())
	}
	return nil
}

// ValidateFor refuses what the request doesn't allow.
func (d ReviewDecisions) ValidateFor(request ReviewRequest) error {
	if len(d.Decisions) != len(request.ActionRequests) {
		return &AnswerError{Fields: []FieldError{{Pointer: "/decisions", Message: fmt.Sprintf(
			"Number of human decisions (%d) does not match number of hanging tool calls (%d).", len(d.Decisions), len(request.ActionRequests))}}}
	}
	var faults []FieldError
	for i, decision := range d.Decisions {
		config := request.config(request.ActionRequests[i].Name)
		at := fmt.Sprintf("/decisions/%d", i)
		fault := func(pointer, message string) {
			faults = append(faults, FieldError{Pointer: at + pointer, Message: message})
		}
		switch {
		case !slices.Contains(config.AllowedDecisions, decision.Type):
			fault("/type", fmt.Sprintf("%q is not allowed for %s: must be one of %s", decision.Type, config.ActionName, strings.Join(config.AllowedDecisions, ", ")))
		case decision.Type == "edit" && decision.EditedAction == nil:
			fault("/edited_action", "is missing: an edit needs the edited action")
		case decision.Type != "edit" && decision.EditedAction != nil:
			fault("/edited_action", "goes only with the type edit")
		case decision.Type == "edit":
			if err := request.checkEdit(config, decision.EditedAction, fault); err != nil {
				return err
			}
		}
	}
	if len(faults) > 0 {
		return &AnswerError{Fields: faults}
	}
	return nil
}

var review = NewQuestion[ReviewRequest, ReviewDecisions]("review")

// AskReview asks with the request of LangChain's human-in-the-loop middleware, and returns
// one decision per action, in order. Errors are those of [QuestionType.Ask]; [ErrInvalid] for a request without an
// action.
func AskReview(ctx context.Context, request ReviewRequest, options ...AskOption) ([]ReviewDecision, error) {
	if len(request.ActionRequests) == 0 {
		return nil, &Error{Reason: ErrInvalid, Err: errors.New("a review of no action")}
	}
	form, err := reviewSchema(len(request.ActionRequests))
	if err != nil {
		return nil, err
	}
	decided, err := review.asking(request, func(a *asking) error {
		a.Schema = form
		for _, option := range options {
			if err := option.applyAsk(a); err != nil {
				return err
			}
		}
		return nil
	}).ask(ctx)
	return decided.Decisions, err
}

// reviewSchema is the schema of n decisions.
func reviewSchema(n int) ([]byte, error) {
	t := reflect.TypeFor[ReviewDecisions]()
	data, err := schemaOf(t)
	if err != nil {
		return nil, err
	}
	var s map[string]any
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, definitionError("answer", t.String(), err)
	}
	properties, _ := s["properties"].(map[string]any)
	decisions, ok := properties["decisions"].(map[string]any)
	if !ok {
		return nil, definitionError("answer", t.String(), errors.New("its schema has no decisions"))
	}
	decisions["type"], decisions["minItems"], decisions["maxItems"] = "array", n, n
	delete(decisions, "types")
	return json.Marshal(s)
}
