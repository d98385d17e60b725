package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/shared"
)

// service is a model behind an endpoint that speaks OpenAI's chat completions.
type service struct {
	client openai.Client
	model  string
}

// newService makes a client. An empty key is taken from the environment, as the SDK does. Failed
// requests are repeated by the workflow's policy, where that is recorded, not by the client.
func newService(baseURL, key, model string) *service {
	options := []option.RequestOption{option.WithBaseURL(baseURL), option.WithMaxRetries(0)}
	if key != "" {
		options = append(options, option.WithAPIKey(key))
	}
	return &service{client: openai.NewClient(options...), model: model}
}

// Reply asks the service.
func (s *service) Reply(ctx context.Context, conversation []Message, tools []Tool) (Message, error) {
	params := openai.ChatCompletionNewParams{Model: s.model}
	for _, m := range conversation {
		said, err := param(m)
		if err != nil {
			return Message{}, err
		}
		params.Messages = append(params.Messages, said)
	}
	for _, tool := range tools {
		params.Tools = append(params.Tools, openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{
			Name: tool.Name, Description: openai.String(tool.Description), Parameters: tool.Parameters,
		}))
	}
	completion, err := s.client.Chat.Completions.New(ctx, params)
	if err != nil {
		return Message{}, fmt.Errorf("ask %s: %w", s.model, err)
	}
	if len(completion.Choices) == 0 {
		return Message{}, errors.New("the service sent no choice")
	}
	said := Message{Role: "assistant", Text: completion.Choices[0].Message.Content}
	for _, call := range completion.Choices[0].Message.ToolCalls {
		c := ToolCall{ID: call.ID, Name: call.Function.Name}
		if err := json.Unmarshal([]byte(call.Function.Arguments), &c.Args); err != nil {
			return Message{}, fmt.Errorf("arguments of the call of %s: %w", c.Name, err)
		}
		said.Calls = append(said.Calls, c)
	}
	return said, nil
}

// param is a message as the service takes it.
func param(m Message) (openai.ChatCompletionMessageParamUnion, error) {
	switch m.Role {
	case "user":
		return openai.UserMessage(m.Text), nil
	case "tool":
		return openai.ToolMessage(m.Text, m.CallID), nil
	}
	said := openai.AssistantMessage(m.Text)
	for _, call := range m.Calls {
		args, err := json.Marshal(call.Args)
		if err != nil {
			return said, err
		}
		said.OfAssistant.ToolCalls = append(said.OfAssistant.ToolCalls, openai.ChatCompletionMessageToolCallUnionParam{
			OfFunction: &openai.ChatCompletionMessageFunctionToolCallParam{
				ID:       call.ID,
				Function: openai.ChatCompletionMessageFunctionToolCallFunctionParam{Name: call.Name, Arguments: string(args)},
			},
		})
	}
	return said, nil
}
