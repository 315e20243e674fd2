package main

// The interface that OpenAI's clients speak, under /v1, and the memories that its requests may name: then only messages
// that are new are read, and the rest is remembered.

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"

	"example.org/infini"
)

// fields are those of a request. Absent and null are the same; fields that nothing here asks for do not count.
type fields map[string]json.RawMessage

// readFrom reads those of a body; none where it is empty.
func (f *fields) readFrom(e *exchange) error {
	err := readJSON(e, (*map[string]json.RawMessage)(f))
	if err == io.EOF {
		return nil
	}
	return err
}

// get reads a field, where it is there.
func (f fields) get(name string, into any) (given bool, err error) {
	value := f[name]
	if len(value) == 0 || string(value) == "null" {
		return false, nil
	}
	if err := json.Unmarshal(value, into); err != nil {
		wanted := "an object"
		switch into.(type) {
		case *float64:
			wanted = "a number"
		case *int64:
			wanted = "a whole number"
		case *bool:
			wanted = "true or false"
		case *string:
			wanted = "a text"
		case *[]*string:
			wanted = "a text or a list of texts"
		case *[]json.RawMessage:
			wanted = "a list"
		}
		return true, refuse("%q must be %s", name, wanted)
	}
	return true, nil
}

// texts reads a field that is a text or a list of texts.
func (f fields) texts(name string) (texts []string, err error) {
	var one string
	if value := f[name]; len(value) > 0 && value[0] == '"' {
		_, err = f.get(name, &one)
		return []string{one}, err
	}
	var list []*string
	_, err = f.get(name, &list)
	for _, text := range list {
		if text == nil {
			return nil, refuse("%q must be a text or a list of texts", name)
		}
		texts = append(texts, *text)
	}
	return texts, err
}

// unsupported refuses what the service does not do; the values are those that ask for nothing.
func (f fields) unsupported(harmless map[string][]string) error {
	for name, values := range harmless {
		given := string(f[name])
		ok := given == "" || given == "null"
		for _, value := range values {
			ok = ok || given == value
		}
		if !ok {
			return refuse("%q is not supported here", name)
		}
	}
	return nil
}

func refuse(format string, values ...any) error {
	return &refusal{400, "INVALID_ARGUMENT", fmt.Sprintf(format, values...)}
}

func openAIError(r *refusal) any {
	kind := "invalid_request_error"
	switch {
	case r.code == 401:
		kind = "authentication_error"
	case r.code == 429:
		kind = "rate_limit_error"
	case r.code >= 500:
		kind = "server_error"
	}
	return map[string]any{"error": map[string]any{
		"message": r.message, "type": kind, "param": nil, "code": strings.ToLower(r.name)}}
}

func (s *service) serveOpenAI(e *exchange, path []string) error {
	call := e.request.Method + " " + strings.Join(path, "/")
	if path[0] == "memories" && len(path) == 2 {
		return s.serveMemory(e, path[1])
	}
	if path[0] == "memories" && len(path) == 3 && path[2] == "feed" {
		return s.feedMemory(e, path[1])
	}
	if path[0] == "memories" && len(path) == 3 && path[2] == "merge" {
		return s.mergeMemory(e, path[1])
	}
	if path[0] == "memories" && len(path) == 3 && path[2] == "note" {
		return s.noteMemory(e, path[1])
	}
	if err := e.limit(maxMessages); err != nil {
		return err
	}
	switch call {
	case "GET models":
		return e.answer(200, map[string]any{"object": "list", "data": []any{
			map[string]any{"id": s.name, "object": "model", "created": 0, "owned_by": "infini"}}})
	case "GET memories":
		return s.listMemories(e)
	case "POST chat/completions":
		return s.complete(e, true)
	case "POST completions":
		return s.complete(e, false)
	case "POST embeddings":
		return s.embed(e)
	}
	for _, known := range []string{"models", "memories", "chat/completions", "completions", "embeddings"} {
		if strings.Join(path, "/") == known {
			return errWrongMethod
		}
	}
	return &refusal{404, "NOT_FOUND", "there is no such path"}
}

// optionsFor are a request's, as the library knows them. What is not given is as OpenAI's interface has it.
func (s *service) optionsFor(f fields) (infini.Options, error) {
	err := f.unsupported(map[string][]string{
		"n": {"1"}, "best_of": {"1"}, "echo": {"false"}, "suffix": {`""`}, "logprobs": {"false"}, "top_logprobs": {"0"},
		"tools": {"[]"}, "tool_choice": {`"none"`, `"auto"`}, "functions": {"[]"}, "function_call": {`"none"`, `"auto"`},
		"response_format": {`{"type":"text"}`, `{"type": "text"}`}, "audio": nil, "prediction": nil, "modalities": {`["text"]`},
	})
	if err != nil {
		return nil, err
	}
	var random [4]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, err
	}
	options := infini.Options{"temperature": 1.0, "top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "logit_bias": "",
		"unknown_text": "skip"}
	for _, name := range []string{"temperature", "top_p", "presence_penalty", "frequency_penalty"} {
		var value float64
		if given, err := f.get(name, &value); err != nil {
			return nil, err
		} else if given {
			options[name] = value
		}
	}
	seed := int64(binary.LittleEndian.Uint32(random[:]))
	if _, err := f.get("seed", &seed); err != nil {
		return nil, err
	}
	options["seed"] = seed
	most := s.maxTokens
	for _, name := range []string{"max_tokens", "max_completion_tokens"} {
		var value int64
		if given, err := f.get(name, &value); err != nil {
			return nil, err
		} else if given && value < 0 {
			return nil, refuse("%q is %d, but must be at least 0", name, value)
		} else if given && value < most {
			most = value
		}
	}
	options["max_tokens"] = most
	if options["stop"], err = f.texts("stop"); err != nil {
		return nil, err
	}
	biases := map[string]float64{}
	if _, err := f.get("logit_bias", &biases); err != nil {
		return nil, err
	}
	list := []string{}
	for token, bias := range biases {
		list = append(list, fmt.Sprintf("%s:%g", token, bias))
	}
	sort.Strings(list)
	options["logit_bias"] = strings.Join(list, ",")
	return options, nil
}

// complete answers chat and plain completions, at once or as a stream.
func (s *service) complete(e *exchange, chat bool) error {
	f := fields{}
	if err := f.readFrom(e); err != nil {
		return err
	}
	options, err := s.optionsFor(f)
	if err != nil {
		return err
	}
	reply := reply{exchange: e, chat: chat, created: time.Now().Unix()}
	var streamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	}
	memory := e.request.Header.Get("Infini-Memory")
	for name, into := range map[string]any{"stream": &reply.stream, "stream_options": &streamOptions, "memory": &memory} {
		if _, err := f.get(name, into); err != nil {
			return err
		}
	}
	reply.usage = streamOptions.IncludeUsage
	var messages []json.RawMessage
	var prompts []string
	if chat {
		if _, err := f.get("messages", &messages); err != nil {
			return err
		} else if len(messages) == 0 {
			return refuse(`"messages" must be a list of messages`)
		}
	} else if prompts, err = f.texts("prompt"); err != nil {
		return err
	} else if len(prompts) != 1 {
		return refuse(`"prompt" must be one text`)
	}
	reply.model = s.name
	var random [12]byte
	if _, err := rand.Read(random[:]); err != nil {
		return err
	}
	reply.id = hex.EncodeToString(random[:])
	do := func(c *client) error { return s.reply(&reply, c, memory, options, messages, prompts) }
	if memory == "" {
		return s.work(e, func() error { return s.once(e, reply.id, options, do) })
	}
	// The memory comes first, so that who waits for it holds nobody up.
	return s.inTurn(e, memory, true, func(c *client) error { return s.work(e, func() error { return do(c) }) })
}

// reply uses a session for an answer.
func (s *service) reply(reply *reply, c *client, memory string, options infini.Options, messages []json.RawMessage, prompts []string) error {
	e := reply.exchange
	if err := c.session.SetOptions(options); err != nil {
		return err
	}
	begin, err := c.session.Position()
	if err != nil {
		return err
	}
	reply.keep = func() error {
		if position, err := c.session.Position(); memory == "" || err == nil && position == begin { // nothing came
			return nil
		}
		e.kept = true
		return s.keep(memory, c)
	}
	if reply.chat {
		fresh, digest := newMessages(messages, c.known)
		written, err := json.Marshal(fresh)
		if err != nil {
			return err
		}
		return s.write(reply, c.session, func() error {
			if err := s.readChat(e, c.session, string(written)); err != nil {
				return err
			}
			c.known = digest
			return nil
		})
	}
	return s.write(reply, c.session, func() error {
		if err := c.session.StartGeneration(); err != nil {
			return err
		}
		return s.readText(e, c.session, prompts[0])
	})
}

// reply is the answer to one request for a completion.
type reply struct {
	*exchange
	chat, stream, usage bool
	opened              bool // a streamed chat: it was said whose turn it is
	id, model           string
	created             int64
	keep                func() error
}

// write reads what was said, sends what the model writes, and keeps all before it says that it has ended.
func (s *service) write(r *reply, session *infini.Session, read func() error) error {
	before, err := session.Position()
	if err != nil {
		return err
	}
	if err := read(); err != nil {
		if fault := r.keep(); fault != nil {
			return fault
		}
		return err
	}
	begin, err := session.Position()
	if err != nil {
		return err
	}
	var text strings.Builder
	take := func(piece string) error {
		if !r.stream {
			text.WriteString(piece)
			return nil
		}
		if err := r.open(); err != nil {
			return err
		}
		return r.event("", r.object(piece, nil))
	}
	reason, err := s.run(r.exchange, session, take, r.stream)
	if err == nil && reason == "cancelled" { // clients know no such end
		err = context.Canceled
	}
	if fault := r.keep(); fault != nil {
		err = fault
	}
	if err != nil {
		if r.begun {
			_ = r.event("", openAIError(s.refusalOf(err)))
			return nil
		}
		return err
	}
	end, err := session.Position()
	if err != nil {
		return err
	}
	finish := "stop"
	if reason == "max_tokens" || reason == "max_time" {
		finish = "length"
	}
	usage := map[string]any{"prompt_tokens": begin - before, "completion_tokens": end - begin, "total_tokens": end - before}
	if !r.stream {
		object := r.object(text.String(), finish)
		object["usage"] = usage
		return r.answer(200, object)
	}
	_ = r.open()
	_ = r.event("", r.object("", finish))
	if r.usage {
		object := r.object("", nil)
		object["choices"], object["usage"] = []any{}, usage
		_ = r.event("", object)
	}
	_ = r.send("data: [DONE]")
	return nil
}

// open says whose turn it is, before a chat's first piece.
func (r *reply) open() error {
	if !r.chat || r.opened {
		return nil
	}
	r.opened = true
	object := r.object("", nil)
	object["choices"].([]any)[0].(map[string]any)["delta"] = map[string]any{"role": "assistant", "content": ""}
	return r.event("", object)
}

func (r *reply) object(text string, finish any) map[string]any {
	choice := map[string]any{"index": 0, "finish_reason": finish, "logprobs": nil}
	kind, prefix := "text_completion", "cmpl-"
	switch {
	case !r.chat:
		choice["text"] = text
	case r.stream:
		kind, prefix = "chat.completion.chunk", "chatcmpl-"
		delta := map[string]any{}
		if finish == nil {
			delta["content"] = text
		}
		choice["delta"] = delta
	default:
		kind, prefix = "chat.completion", "chatcmpl-"
		choice["message"] = map[string]any{"role": "assistant", "content": text, "refusal": nil}
	}
	return map[string]any{"id": prefix + r.id, "object": kind, "created": r.created, "model": r.model, "choices": []any{choice}}
}

// embed answers with the embedding of each text's last token.
func (s *service) embed(e *exchange) error {
	f := fields{}
	if err := f.readFrom(e); err != nil {
		return err
	}
	texts, err := f.texts("input")
	if err != nil || len(texts) == 0 {
		return refuse(`"input" must be a text or a list of texts`)
	}
	format := "float"
	if _, err := f.get("encoding_format", &format); err != nil || format != "float" && format != "base64" {
		return refuse(`"encoding_format" must be "float" or "base64"`)
	}
	if err := f.unsupported(map[string][]string{"dimensions": nil}); err != nil {
		return err
	}
	return s.work(e, func() error {
		return s.once(e, fmt.Sprintf("embeddings-%p", e), infini.Options{"unknown_text": "skip"}, func(c *client) error {
			return s.answerEmbeddings(e, c.session, texts, format)
		})
	})
}

func (s *service) answerEmbeddings(e *exchange, session *infini.Session, texts []string, format string) error {
	data, tokens := []any{}, int64(0)
	for i, text := range texts {
		if err := session.Reset(); err != nil {
			return err
		}
		if err := s.readText(e, session, text); err != nil {
			return err
		}
		numbers, err := session.Embedding()
		if err != nil {
			return refuse(`text %d of "input" has no tokens`, i)
		}
		position, err := session.Position()
		if err != nil {
			return err
		}
		tokens += position
		var embedding any = numbers
		if format == "base64" {
			var raw strings.Builder
			_ = binary.Write(&raw, binary.LittleEndian, numbers)
			embedding = base64.StdEncoding.EncodeToString([]byte(raw.String()))
		}
		data = append(data, map[string]any{"object": "embedding", "index": i, "embedding": embedding})
	}
	return e.answer(200, map[string]any{"object": "list", "data": data, "model": s.name,
		"usage": map[string]any{"prompt_tokens": tokens, "total_tokens": tokens}})
}
