package infini

import (
	"context"
	"errors"
	"runtime"

	"example.org/infini/internal/native"
)

// Model is a model's configuration, weights and tokenizer. It never changes and may be used by any number of
// goroutines and sessions at once.
type Model struct{ handle *handle }

// Open opens a GGUF file and packs its weights for this processor. Options: "weights", "compute", "window_type", "gemm", "threads", "memory",
// "update", "segment", "carry", "sinks", "keep", "adapter", "adapter_weight"; those of a session are refused. The file stays mapped while the model lives: replace it, do not overwrite it.
// Progress: stage "open", in matrices. A file without tensors opens as a tokenizer alone.
//
// Errors: IO, Format, Truncated, VersionTooNew, Unsupported, UnknownOption, InvalidArgument, Cancelled.
func Open(ctx context.Context, path string, options Options) (*Model, error) {
	if err := noZero(path); err != nil {
		return nil, err
	}
	return newModel(ctx, options, func(o, task uintptr, model *uintptr) error {
		return native.Infini_model_open(path, o, task, model)
	})
}

// Create makes a model with random weights. configJSON is a JSON object such as {"layers": 2, "width": 64}; "{}" is
// the default. CreationSettings lists its fields. Progress: stages "create", in tensors, and "open", in matrices.
//
// Errors: InvalidArgument, UnknownOption, Cancelled; IO, Format, ... of the tokenizer's file.
func Create(ctx context.Context, configJSON string, options Options) (*Model, error) {
	if err := noZero(configJSON); err != nil {
		return nil, err
	}
	return newModel(ctx, options, func(o, task uintptr, model *uintptr) error {
		return native.Infini_model_create(configJSON, o, task, model)
	})
}

// CreationSettings lists the fields of a new model's configuration: a JSON array of {"name", "type", "default", "least" and
// "greatest", or "choices", "help"}.
func CreationSettings() (string, error) { return text(native.Infini_creation_settings_json) }

// KeepSettings lists the fields of what FitKeep learns from, as CreationSettings does.
func KeepSettings() (string, error) { return text(native.Infini_keep_settings_json) }

func newModel(ctx context.Context, options Options, open func(options, task uintptr, model *uintptr) error) (*Model, error) {
	if err := checkABI(); err != nil {
		return nil, err
	}
	var pointer uintptr
	if err := options.withTask(ctx, func(o, task uintptr) error { return open(o, task, &pointer) }); err != nil {
		return nil, err
	}
	m := &Model{newHandle("model", pointer, native.Infini_model_free)}
	runtime.SetFinalizer(m, func(m *Model) { m.handle.close() })
	return m, nil
}

// Close lets the model go. Calls that run finish first, sessions keep what they need. Closing again does nothing.
// A model that is not closed is freed some time after the last use of it.
func (m *Model) Close() error {
	m.handle.close()
	return nil
}

// Save writes the model as a GGUF file: the numbers of the file that it came from, unchanged. The file is replaced
// whole or not at all. Progress: stage "save", in bytes of tensors.
//
// Errors: IO, NoSpace, Cancelled.
func (m *Model) Save(ctx context.Context, path string) error {
	if err := noZero(path); err != nil {
		return err
	}
	return m.long(ctx, func(model, task uintptr) error { return native.Infini_model_save(model, path, task) })
}

// FitKeep learns what is worth keeping, of a model that keeps sentences (option "keep"), and writes the model's file with it
// to path. lessonJSON is an object of the fields that KeepSettings lists, of which "pieces" must be there. Progress: stage
// "keep", in tokens.
//
// Errors: State (the model keeps nothing, or has no tokenizer), InvalidArgument (the message names the field, or sentences of
// either sort are lacking), Cancelled, IO, NoSpace; then nothing was written.
func (m *Model) FitKeep(ctx context.Context, lessonJSON, path string) error {
	if err := noZero(lessonJSON, path); err != nil {
		return err
	}
	return m.long(ctx, func(model, task uintptr) error {
		return native.Infini_model_fit_keep(model, lessonJSON, path, task)
	})
}

func (m *Model) long(ctx context.Context, do func(model, task uintptr) error) error {
	return m.call(func(model uintptr) error {
		w := begin(ctx, 0)
		defer w.end()
		return w.do(func(task uintptr) error { return do(model, task) })
	})
}

// Quantize writes the model of the file from as the file to, with its matrices quantised: "q8_0", "q6_k", "q4_k", "q4_0", ...;
// the C header lists the types. Types whose blocks do not divide a matrix's rows give way to one of smaller blocks. The model
// need not fit in memory. Options: "threads". The file is replaced whole or not at all, and may be from.
// Progress: stage "quantize", in bytes written.
//
// Errors: as Open, of from; NoSpace; InvalidArgument (no such type); Cancelled.
func Quantize(ctx context.Context, from, to, quantType string, options Options) error {
	if err := noZero(from, to, quantType); err != nil {
		return err
	}
	if err := checkABI(); err != nil {
		return err
	}
	return options.withTask(ctx, func(o, task uintptr) error {
		return native.Infini_model_quantize(from, to, quantType, o, task)
	})
}

// NewSession starts an empty stream through the model. Options: "threads", "chunk", "deterministic", "checkpoints",
// "rewind_sampler", "compress", "special", "unknown_text" and those of generation ("max_tokens", "temperature", "seed",
// "stop", ...); those of a model are refused.
//
// Errors: State (the model is a tokenizer alone), UnknownOption, InvalidArgument.
func (m *Model) NewSession(options Options) (*Session, error) {
	var session uintptr
	var vocabulary, width uint64
	err := m.call(func(model uintptr) error {
		err := options.with(func(o uintptr) error { return native.Infini_session_create(model, o, &session) })
		if err == nil {
			_ = native.Infini_model_vocabulary(model, &vocabulary) // a model that has sessions has both
			_ = native.Infini_model_width(model, &width)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return newSession(session, int(vocabulary), int(width)), nil
}

// Tokenize returns the tokens of a text. special: control tokens written in the text are parsed; start: the text begins
// a stream, so that BOS and the space prefix are added where the model wants them.
//
// Errors: InvalidArgument (the text is not UTF-8), State (the model has no tokenizer).
func (m *Model) Tokenize(text string, special, start bool) ([]int32, error) {
	data := []byte(text)
	return m.tokens(len(data), func(model uintptr, b []int32, n *uint64) error {
		return native.Infini_model_tokenize(model, data, flags(special, start), b, n)
	})
}

// tokens gets the tokens of so many bytes: hardly a text has more.
func (m *Model) tokens(bytes int, fill func(model uintptr, b []int32, n *uint64) error) ([]int32, error) {
	var tokens []int32
	err := m.call(func(model uintptr) (err error) {
		tokens, err = tokensOf(bytes, func(b []int32, n *uint64) error { return fill(model, b, n) })
		return err
	})
	return tokens, err
}

// tokensOf asks for tokens, of which there are hardly more than so many.
func tokensOf(expected int, fill func(b []int32, n *uint64) error) ([]int32, error) {
	tokens := make([]int32, expected+16)
	var size uint64
	err := fill(tokens, &size)
	if errors.Is(err, BufferTooSmall) {
		tokens = make([]int32, size)
		err = fill(tokens, &size)
	}
	if err != nil {
		return nil, err
	}
	return append([]int32(nil), tokens[:size]...), nil
}

// TokenCount returns how many tokens Tokenize would give.
func (m *Model) TokenCount(text string, special, start bool) (int, error) {
	var size uint64
	err := m.call(func(model uintptr) error {
		return native.Infini_model_token_count(model, []byte(text), flags(special, start), &size)
	})
	return int(size), err
}

// Detokenize returns the text of tokens. special: control tokens show as their names; start: the tokens begin a stream,
// so that the space prefix is taken off. The text may begin or end inside a UTF-8 character if the tokens do.
//
// Errors: InvalidArgument (a token is not in the vocabulary), State (the model has no tokenizer).
func (m *Model) Detokenize(tokens []int32, special, start bool) (string, error) {
	return m.text(func(model uintptr, b []byte, n *uint64) error {
		return native.Infini_model_detokenize(model, tokens, flags(special, start), b, n)
	})
}

// TokenIsEnd reports whether a token ends generation. Errors: InvalidArgument, State.
func (m *Model) TokenIsEnd(token int32) (bool, error) {
	return m.answer(token, native.Infini_model_token_is_end)
}

// TokenIsControl reports whether a token is a control token. Errors: InvalidArgument, State.
func (m *Model) TokenIsControl(token int32) (bool, error) {
	return m.answer(token, native.Infini_model_token_is_control)
}

// BOS returns the token that begins a text, -1 where the model has none. Errors: State.
func (m *Model) BOS() (token int32, err error) {
	err = m.call(func(model uintptr) error { return native.Infini_model_bos(model, &token) })
	return
}

// EOS returns the token that ends a text, -1 where the model has none. Errors: State.
func (m *Model) EOS() (token int32, err error) {
	err = m.call(func(model uintptr) error { return native.Infini_model_eos(model, &token) })
	return
}

// Vocabulary returns how many tokens the model knows: the length of a row of logits.
func (m *Model) Vocabulary() (int, error) { return m.number(native.Infini_model_vocabulary) }

// Width returns the length of an embedding. Errors: State (the model is a tokenizer alone).
func (m *Model) Width() (int, error) { return m.number(native.Infini_model_width) }

// call runs do with the model, which is not finalized before it has begun.
func (m *Model) call(do func(model uintptr) error) error {
	defer runtime.KeepAlive(m)
	return m.handle.call(do)
}

func (m *Model) text(fill func(model uintptr, b []byte, n *uint64) error) (result string, err error) {
	err = m.call(func(model uintptr) (err error) {
		result, err = text(func(b []byte, n *uint64) error { return fill(model, b, n) })
		return err
	})
	return
}

func (m *Model) number(get func(model uintptr, n *uint64) error) (int, error) {
	var n uint64
	err := m.call(func(model uintptr) error { return get(model, &n) })
	return int(n), err
}

func (m *Model) answer(token int32, ask func(model uintptr, token int, answer *int32) error) (bool, error) {
	var answer int32
	err := m.call(func(model uintptr) error { return ask(model, int(token), &answer) })
	return answer != 0, err
}
