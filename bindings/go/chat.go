package infini

import (
	"context"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"example.org/infini/internal/native"
)

// Message is a turn of a conversation.
type Message struct {
	Role    string `json:"role"` // "system", "user" or "assistant"
	Content string `json:"content"`
}

// Chat reads messages, those that are new in the conversation, as the model's chat template writes them, so that Generate
// and Next write the reply. It closes the reply before, if there was one. What messages say is a person's words: control
// tokens are not parsed from it. If the last message is the assistant's, the reply goes on with it. Progress: stage "feed",
// in tokens.
//
// Errors: Unsupported (no chat template, or one that cannot be run), InvalidArgument, State, Cancelled.
func (s *Session) Chat(ctx context.Context, messages ...Message) error {
	written, err := writeMessages(messages)
	if err != nil {
		return err
	}
	return s.ChatJSON(ctx, written)
}

// ChatJSON does what Chat does with messages as other programs write them: a list of {"role", "content"}, whose other keys
// do not count, where content may be null or a list of {"type": "text", "text": "..."}.
func (s *Session) ChatJSON(ctx context.Context, messagesJSON string) error {
	if err := noZero(messagesJSON); err != nil {
		return err
	}
	return s.long(ctx, func(session, task uintptr) error {
		return native.Infini_session_chat(session, messagesJSON, task)
	})
}

// ChatTokensJSON returns the tokens that ChatJSON would read, for who reads them in pieces, between which others have their
// turn: all of them by Feed, and then StartGeneration. The turn begins here; where nothing of it is read, the next one does.
//
// Errors: Unsupported, InvalidArgument, State, as for Chat; then nothing has changed.
func (s *Session) ChatTokensJSON(messagesJSON string) (tokens []int32, err error) {
	if err := noZero(messagesJSON); err != nil {
		return nil, err
	}
	err = s.call(func(session uintptr) (err error) {
		tokens, err = tokensOf(len(messagesJSON), func(b []int32, n *uint64) error {
			return native.Infini_session_chat_tokens(session, messagesJSON, b, n)
		})
		return err
	})
	return
}

// ChatTokens returns messages as tokens, as Session.Chat would read them. first: they begin the conversation; reply: the
// tokens end with the opening of the assistant's turn.
//
// Errors: Unsupported (no chat template, or one that cannot be run), InvalidArgument.
func (m *Model) ChatTokens(messages []Message, first, reply bool) ([]int32, error) {
	written, err := writeMessages(messages)
	if err != nil {
		return nil, err
	}
	return m.ChatTokensJSON(written, first, reply)
}

// ChatTokensJSON does what ChatTokens does with messages as other programs write them, as Session.ChatJSON takes them.
func (m *Model) ChatTokensJSON(messagesJSON string, first, reply bool) ([]int32, error) {
	if err := noZero(messagesJSON); err != nil {
		return nil, err
	}
	return m.tokens(len(messagesJSON), func(model uintptr, b []int32, n *uint64) error {
		return native.Infini_model_chat_tokens(model, messagesJSON, flags(first, reply), b, n)
	})
}

// ApplyChat returns messages as text, as the model was trained to see them: to be looked at. Who reads it with option
// "special" lets messages write control tokens; Session.Chat does not.
//
// Errors: Unsupported (no chat template, or one that cannot be run), InvalidArgument.
func (m *Model) ApplyChat(messages []Message, first, reply bool) (string, error) {
	written, err := writeMessages(messages)
	if err != nil {
		return "", err
	}
	return m.text(func(model uintptr, b []byte, n *uint64) error {
		return native.Infini_model_apply_chat(model, written, flags(first, reply), b, n)
	})
}

// ChatTurnEnd returns what closes the assistant's turn, to be fed after a generated reply by who does not use Session.Chat.
// Errors: Unsupported.
func (m *Model) ChatTurnEnd() (string, error) {
	return m.text(native.Infini_model_chat_turn_end)
}

// writeMessages refuses text that is not UTF-8, which JSON would write as something else.
func writeMessages(messages []Message) (string, error) {
	for i, message := range messages {
		if !utf8.ValidString(message.Role) || !utf8.ValidString(message.Content) {
			return "", &Error{Status: InvalidArgument, Message: fmt.Sprintf("message %d is not UTF-8", i)}
		}
	}
	if messages == nil {
		return "[]", nil
	}
	written, err := json.Marshal(messages)
	if err != nil {
		return "", failure("the messages cannot be written", err)
	}
	return string(written), nil
}
