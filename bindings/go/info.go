package infini

import (
	"encoding/json"

	"example.org/infini/internal/native"
)

// ModelInfo is what a model is. Of a tokenizer alone, only the first seven are told.
type ModelInfo struct {
	Name         string `json:"name"`
	Tokenizer    string `json:"tokenizer"`     // "llama", "gpt2", ...; "": none
	Tokens       int    `json:"tokens"`        // of the tokenizer
	BOS          int32  `json:"bos"`           // the token that begins a text; -1: none
	EOS          int32  `json:"eos"`           // the token that ends a text; -1: none
	ChatTemplate string `json:"chat_template"` // "chatml", "llama2", ..., "other"; "unknown": it cannot be used; "": none
	Vocabulary   int    `json:"vocabulary"`    // the length of a row of logits

	Architecture    string         `json:"architecture"`
	Parameters      int64          `json:"parameters"`
	TensorTypes     map[string]int `json:"tensor_types"`     // how many tensors of the file are of each: "Q4_0", "F32"
	AdaptedMatrices int            `json:"adapted_matrices"` // whose products an adapter changes
	Layers          int            `json:"layers"`
	Width           int            `json:"width"` // the length of an embedding
	Heads           int            `json:"heads"`
	KVHeads         int            `json:"kv_heads"`
	KeySize         int            `json:"key_size"`
	ValueSize       int            `json:"value_size"`
	Hidden          int            `json:"hidden"`
	Context         int            `json:"context"` // tokens that it was trained for
	Compute         string         `json:"compute"` // "f32", "bf16", "int8"
	Gemm            string         `json:"gemm"`
	WeightBytes     int64          `json:"weight_bytes"`    // packed
	TrainedMemory   bool           `json:"trained_memory"`  // the file has one; else the model sees only its window
	MemoryHeads     int            `json:"memory_heads"`    // KV heads of all layers that keep a memory
	WindowedLayers  int            `json:"windowed_layers"` // those with a window of their own, which have no memory
	Segment         int            `json:"segment"`         // these five in tokens
	Carry           int            `json:"carry"`
	Sinks           int            `json:"sinks"`
	Keep            int            `json:"keep"` // tokens that stood out and stay in view
	Window          int            `json:"window"`
	WindowType      string         `json:"window_type"` // "f32", "bf16", "int8"
	Update          string         `json:"update"`
	FirstSegment    string         `json:"first_segment"`
	Epsilon         float64        `json:"epsilon"`

	JSON string `json:"-"` // all of it, as the library wrote it
}

// KeptSentence is one that stays in view.
type KeptSentence struct {
	Position int64   `json:"position"` // of its first token
	Tokens   int64   `json:"tokens"`
	Worth    float64 `json:"worth"` // what it is ranked by; 1e6: it was marked
}

// SessionInfo is where a session is, and what it holds.
type SessionInfo struct {
	Position        int64          `json:"position"`         // tokens read since the stream began
	SegmentPosition int64          `json:"segment_position"` // tokens in the open segment
	MemoryTokens    int64          `json:"memory_tokens"`    // tokens that were folded into the memory
	StateBytes      int64          `json:"state_bytes"`      // what a copy costs
	CheckpointBytes int64          `json:"checkpoint_bytes"` // of these, what the boundaries take that are kept
	WorkspaceBytes  int64          `json:"workspace_bytes"`  // buffers of the last chunk
	SessionBytes    int64          `json:"session_bytes"`    // all that the session holds
	RewindLimit     int64          `json:"rewind_limit"`     // the earliest position that Rewind reaches
	Boundaries      []int64        `json:"boundaries"`       // positions that are kept for it
	StopReason      string         `json:"stop_reason"`      // as Session.StopReason tells
	ChatBegin       int64          `json:"chat_begin"`       // position at which the conversation of Chat began; -1: there is none
	UnknownBytes    int64          `json:"unknown_bytes"`    // of text without a token, skipped or replaced
	WindowBegin     int64          `json:"window_begin"`     // position of the first token in view behind sinks and kept sentences
	KeptTokens      int64          `json:"kept_tokens"`      // of sentences that stood out, or were marked, and stay in view
	Kept            []KeptSentence `json:"kept"`             // these sentences, in the order in which they are seen
	Options         map[string]any `json:"options"`          // those that were set

	JSON string `json:"-"` // all of it, as the library wrote it
}

// SnapshotInfo is what a snapshot holds.
type SnapshotInfo struct {
	Kind          string `json:"kind"` // "session", "memory"
	Name          string `json:"name"` // these two as they were given to Save
	Note          string `json:"note"`
	Library       string `json:"library"` // the version that wrote it
	FormatVersion int    `json:"format_version"`
	Model         struct {
		Name        string `json:"name"`
		Fingerprint string `json:"fingerprint"`
	} `json:"model"`
	View struct {
		Position     int64 `json:"position"`
		MemoryTokens int64 `json:"memory_tokens"`
	} `json:"view"`
	Size     int64             `json:"size"` // in bytes
	Sections []SnapshotSection `json:"sections"`
	Compute  string            `json:"compute"` // of a session; "": of a memory alone
	Options  map[string]any    `json:"options"` // of generation, of a session

	JSON string `json:"-"` // all of it, as the library wrote it
}

// SnapshotSection is a part of a snapshot.
type SnapshotSection struct {
	Name            string `json:"name"`
	Offset          int64  `json:"offset"`      // these three in bytes
	StoredSize      int64  `json:"stored_size"` //
	Size            int64  `json:"size"`        //
	Encoding        string `json:"encoding"`    // "plain", "zstd"
	Checksum        string `json:"checksum"`
	ContentChecksum string `json:"content_checksum"` // before compression, where it was verified
}

// Footprint is what each method of long context holds for a past of so many tokens.
type Footprint struct {
	Tokens  int64 `json:"tokens"`
	Methods []struct {
		Method string  `json:"method"` // "kv_cache", "infini_attention", ...
		Values float64 `json:"values"`
		Bytes  float64 `json:"bytes"`
	} `json:"methods"`
	WindowBytes  int64 `json:"window_bytes"`  // of a model: keys and values of its window
	SessionBytes int64 `json:"session_bytes"` // all that a session holds, however long the stream
}

// OptionInfo is a row of the table of options.
type OptionInfo struct {
	Name     string   `json:"name"`
	Type     string   `json:"type"`     // "int", "double", "string"
	Scope    string   `json:"scope"`    // what takes it: "model", "session", "generation" or "text" (a session, all three), "any"
	Default  any      `json:"default"`  // a float64 or a string
	Least    *float64 `json:"least"`    // nil: no bound
	Greatest *float64 `json:"greatest"` // nil: no bound
	Choices  []string `json:"choices"`  // of a string that must be one of them
	Help     string   `json:"help"`
}

// Info returns the facts about the model.
func (m *Model) Info() (info ModelInfo, err error) {
	info.JSON, err = m.text(native.Infini_model_info_json)
	return info, read(info.JSON, err, &info)
}

// Fact returns one fact about the model as text: a name of Info's JSON, "fingerprint", or a key of the model's file.
//
// Errors: InvalidArgument (nothing has that name; the message lists the names).
func (m *Model) Fact(name string) (string, error) {
	if err := noZero(name); err != nil {
		return "", err
	}
	return m.text(func(model uintptr, b []byte, n *uint64) error { return native.Infini_model_info(model, name, b, n) })
}

// Footprint returns what each method of long context would hold for the past of a model of this shape after so many
// tokens.
//
// Errors: InvalidArgument (tokens is negative or too large), State (the model is a tokenizer alone).
func (m *Model) Footprint(tokens int64) (footprint Footprint, err error) {
	written, err := m.text(func(model uintptr, b []byte, n *uint64) error {
		return native.Infini_model_footprint_json(model, tokens, b, n)
	})
	return footprint, read(written, err, &footprint)
}

// PaperFootprint returns the same for the set-up of the Infini-attention paper's comparison.
//
// Errors: InvalidArgument (tokens is negative or too large).
func PaperFootprint(tokens int64) (footprint Footprint, err error) {
	written, err := text(func(b []byte, n *uint64) error { return native.Infini_paper_footprint_json(tokens, b, n) })
	return footprint, read(written, err, &footprint)
}

// Info returns all numbers of the session.
func (s *Session) Info() (info SessionInfo, err error) {
	info.JSON, err = s.text(native.Infini_session_info_json)
	return info, read(info.JSON, err, &info)
}

// DescribeOptions returns the table of all options.
func DescribeOptions() (table []OptionInfo, err error) {
	written, err := text(func(b []byte, n *uint64) error { return native.Infini_options_json(b, n) })
	return table, read(written, err, &table)
}

// read takes apart what the library wrote, unless it failed to; null stays what it was.
func read(written string, err error, into any) error {
	if err == nil {
		if wrong := json.Unmarshal([]byte(written), into); wrong != nil {
			err = &Error{Status: Internal, Message: "what the library wrote cannot be read: " + wrong.Error(), cause: wrong}
		}
	}
	return err
}
