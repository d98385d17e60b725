package main

import (
	"context"
	"fmt"
	"strings"
)

// Model says what comes next in a conversation.
type Model interface {
	Reply(ctx context.Context, conversation []Message, tools []Tool) (Message, error)
}

// Message is a part of a conversation.
type Message struct {
	// Role is "user", "assistant" or "tool".
	Role string
	Text string
	// Calls are what an assistant wants to call.
	Calls []ToolCall
	// CallID says which call the text of a "tool" is the result of.
	CallID string
}

// ToolCall is a call that a model wants.
type ToolCall struct {
	ID   string         `json:"id"`
	Name string         `json:"name"`
	Args map[string]any `json:"args"`
}

// Tool is what a model may call.
type Tool struct {
	Name        string
	Description string
	Parameters  map[string]any // JSON Schema
	Review      bool           // people look at each call before it is made
	Do          func(ctx context.Context, args map[string]any) (string, error)
}

// tools of a travel agency. One only looks, the other spends money.
func tools() []Tool {
	text := map[string]any{"type": "string"}
	object := func(properties map[string]any, required ...string) map[string]any {
		return map[string]any{"type": "object", "properties": properties, "required": required}
	}
	return []Tool{
		{
			Name: "weather", Description: "Tells the weather of a city.",
			Parameters: object(map[string]any{"city": text}, "city"),
			Do: func(_ context.Context, args map[string]any) (string, error) {
				return fmt.Sprintf("fog in %v", args["city"]), nil
			},
		},
		{
			Name: "book_hotel", Description: "Books a hotel.", Review: true,
			Parameters: object(map[string]any{"hotel": text, "nights": map[string]any{"type": "integer"}}, "hotel", "nights"),
			Do: func(_ context.Context, args map[string]any) (string, error) {
				return fmt.Sprintf("booked %v for %v nights", args["hotel"], args["nights"]), nil
			},
		},
	}
}

// scripted is a model that needs no service: it looks at the weather, books a hotel, and sums up what it was told.
type scripted struct{}

func (scripted) Reply(_ context.Context, conversation []Message, _ []Tool) (Message, error) {
	var results []string
	for _, m := range conversation {
		if m.Role == "tool" {
			results = append(results, m.Text)
		}
	}
	if len(results) > 0 {
		return Message{Role: "assistant", Text: "Here is your trip: " + strings.Join(results, "; ") + "."}, nil
	}
	return Message{Role: "assistant", Calls: []ToolCall{
		{ID: "call_1", Name: "weather", Args: map[string]any{"city": "Lund"}},
		{ID: "call_2", Name: "book_hotel", Args: map[string]any{"hotel": "McKittrick", "nights": 2}},
	}}, nil
}
