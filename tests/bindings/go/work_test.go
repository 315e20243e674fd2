package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.org/infini"
)

const novel = source + "samples/texts/wuthering_heights.txt"

// silent is a session that generates for ever and writes no text: the likeliest token is always <s>.
func silent(t testing.TB, model *infini.Model) *infini.Session {
	t.Helper()
	s := must(model.NewSession(infini.Options{"threads": 1, "max_tokens": -1, "ignore_end": true, "logit_bias": "1:10000"}))(t)
	t.Cleanup(func() { s.Close() })
	check(t, s.FeedText(background, "Once"))
	return s
}

// readerFunc and writerFunc are a reader and a writer of one function.
type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// ended is that a context ended a call, by all the names it has.
func ended(t testing.TB, where string, err, cause error) {
	t.Helper()
	var failed *infini.Error
	if !errors.Is(err, infini.Cancelled) || !errors.Is(err, cause) || !errors.As(err, &failed) {
		t.Errorf("%s: %v: Cancelled %v, %v %v, an *Error %v", where, err, errors.Is(err, infini.Cancelled), cause,
			errors.Is(err, cause), errors.As(err, &failed))
	}
}

func TestAContextThatEndedEndsEveryCall(t *testing.T) {
	model := open(t)
	s, other := session(t, model), session(t, model)
	check(t, s.FeedText(background, "Once"))
	check(t, other.FeedText(background, "Once"))
	snapshot := filepath.Join(t.TempDir(), "s")
	check(t, s.Save(background, snapshot, infini.SaveOptions{}))
	batch := must(model.NewBatch())(t)
	defer batch.Close()
	check(t, batch.Add(other))
	learner := trainer(t, tiny(t, 1), "all")
	cancelled, cancel := context.WithCancel(background)
	cancel()
	late, cancelLate := context.WithTimeout(background, 0)
	defer cancelLate()
	for cause, ctx := range map[error]context.Context{context.Canceled: cancelled, context.DeadlineExceeded: late} {
		for where, call := range map[string]func() error{
			"Open":          func() error { _, err := infini.Open(ctx, source+"samples/models/stories260K.gguf", nil); return err },
			"Model.Save":    func() error { return model.Save(ctx, filepath.Join(t.TempDir(), "m")) },
			"Feed":          func() error { return s.Feed(ctx, []int32{300}) },
			"FeedText":      func() error { return s.FeedText(ctx, "a") },
			"FeedReader":    func() error { return s.FeedReader(ctx, strings.NewReader("a")) },
			"nothing":       func() error { return s.FeedReader(ctx, strings.NewReader("")) },
			"FeedLogits":    func() error { _, err := s.FeedLogits(ctx, []int32{300}); return err },
			"Score":         func() error { _, err := s.Score(ctx, []int32{300}); return err },
			"ScoreText":     func() error { _, _, err := s.ScoreText(ctx, "a"); return err },
			"Next":          func() error { _, err := s.Next(ctx); return err },
			"NextToken":     func() error { _, err := s.NextToken(ctx); return err },
			"Generate":      func() error { return s.Generate(ctx, io.Discard) },
			"Save":          func() error { return s.Save(ctx, filepath.Join(t.TempDir(), "s"), infini.SaveOptions{}) },
			"FitKeep":       func() error { return model.FitKeep(ctx, `{"pieces": []}`, filepath.Join(t.TempDir(), "m")) },
			"Create":        func() error { _, err := infini.Create(ctx, `{"layers": 1}`, nil); return err },
			"Snapshot":      func() error { return s.Snapshot(ctx, io.Discard, infini.SaveOptions{}) },
			"RestoreFrom":   func() error { return s.RestoreFrom(ctx, strings.NewReader("")) },
			"MergeFrom":     func() error { return s.MergeFrom(ctx, strings.NewReader(""), 1) },
			"NewTrainer":    func() error { _, err := model.NewTrainer(ctx, `{"data": {"type": "random"}}`, nil); return err },
			"Trainer.Save":  func() error { return learner.Save(ctx, filepath.Join(t.TempDir(), "t")) },
			"Trainer.Write": func() error { return learner.Write(ctx, filepath.Join(t.TempDir(), "t"), "f32") },
			"Inspect":       func() error { _, err := infini.InspectSnapshot(ctx, snapshot, true); return err },
			"Restore":       func() error { return s.Restore(ctx, snapshot) },
			"Batch.Next":    func() error { _, err := batch.Next(ctx); return err },
			"Step":          func() error { _, err := learner.Step(ctx); return err },
			"Run":           func() error { _, err := learner.Run(ctx, 5); return err },
			"Evaluate":      func() error { _, err := learner.Evaluate(ctx, random, 1, 0); return err },
			"FindHeads":     func() error { _, err := learner.FindHeads(ctx, `{"type": "recall"}`, 1, 0); return err },
			"FeedReader2": func() error {
				return s.FeedReader(background, readerFunc(func([]byte) (int, error) { return 0, ctx.Err() }))
			},
		} {
			ended(t, where, call(), cause)
		}
	}
	if p := must(s.Position())(t); p != 2 {
		t.Errorf("position %d", p)
	}
}

func TestAContextEndsReadersAndWritersBetweenPieces(t *testing.T) {
	s := session(t, open(t))
	book := must(os.ReadFile(novel))(t)
	ctx, cancel := context.WithCancel(background)
	reads := 0
	err := s.FeedReader(ctx, readerFunc(func(p []byte) (int, error) {
		if reads++; reads == 3 {
			cancel()
		}
		return copy(p, book[:1<<14]), nil
	}))
	ended(t, "FeedReader", err, context.Canceled)
	if p := must(s.Position())(t); p == 0 || reads != 3 {
		t.Errorf("position %d after %d reads", p, reads)
	}
	ctx, cancel = context.WithCancel(background)
	defer cancel()
	writes := 0
	err = s.Generate(ctx, writerFunc(func(p []byte) (int, error) {
		if writes++; writes == 3 {
			cancel()
		}
		return len(p), nil
	}))
	ended(t, "Generate", err, context.Canceled)
	if writes != 3 {
		t.Errorf("%d writes", writes)
	}
	writes = 0
	err = s.Generate(background, writerFunc(func(p []byte) (int, error) {
		if writes++; writes == 3 {
			check(t, s.Cancel()) // of Generate, between two of its tokens
		}
		return len(p), nil
	}))
	fails(t, err, infini.Cancelled, "cancelled")
	if writes != 3 {
		t.Errorf("%d writes", writes)
	}
	broken := errors.New("broken")
	err = s.Generate(background, writerFunc(func([]byte) (int, error) { return 0, broken }))
	fails(t, err, broken, "could not be written: broken")
	fails(t, err, infini.IO, "")
	fails(t, s.FeedReader(background, readerFunc(func([]byte) (int, error) { return 0, nil })), io.ErrNoProgress, "")
}

func TestWhateverEndsACallDoesSoWhileNoTextComes(t *testing.T) {
	model := open(t)
	for name, end := range map[string]func(s *infini.Session, cancel func()){
		"context": func(s *infini.Session, cancel func()) { cancel() },
		"Cancel":  func(s *infini.Session, cancel func()) { check(t, s.Cancel()) },
		"Close":   func(s *infini.Session, cancel func()) { check(t, s.Close()) },
	} {
		for what, call := range map[string]func(ctx context.Context, s *infini.Session) error{
			"Next":     func(ctx context.Context, s *infini.Session) error { _, err := s.Next(ctx); return err },
			"Generate": func(ctx context.Context, s *infini.Session) error { return s.Generate(ctx, io.Discard) },
		} {
			s := silent(t, model)
			ctx, cancel := context.WithCancel(background)
			result := make(chan error)
			go func() { result <- call(ctx, s) }()
			for must(s.Position())(t) < 100 { // Position does not wait for its turn
				time.Sleep(time.Millisecond)
			}
			waiting, stopWaiting := context.WithTimeout(background, time.Millisecond)
			_, err := s.Next(waiting) // nor does a context for one
			ended(t, what, err, context.DeadlineExceeded)
			stopWaiting()
			end(s, cancel)
			select {
			case err := <-result:
				fails(t, err, infini.Cancelled, "")
				if errors.Is(err, context.Canceled) != (name == "context") || errors.Is(err, os.ErrClosed) != (name == "Close") {
					t.Errorf("%s by %s: %v", what, name, err)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("%s goes on after %s", what, name)
			}
			cancel()
		}
	}
}

func TestErrorsAreWhatTheSystemSays(t *testing.T) {
	model := open(t)
	s := session(t, model)
	folder := t.TempDir()
	_, err := infini.Open(background, filepath.Join(folder, "none.gguf"), nil)
	fails(t, err, os.ErrNotExist, "none.gguf")
	fails(t, s.Restore(background, filepath.Join(folder, "none")), os.ErrNotExist, "none")
	fails(t, s.Save(background, filepath.Join(folder, "none", "s"), infini.SaveOptions{}), os.ErrNotExist, "none")
	_, err = infini.InspectSnapshot(background, filepath.Join(folder, "none"), false)
	fails(t, err, os.ErrNotExist, "none")
	_, err = tiny(t, 1).NewTrainer(background, `{"data": {"type": "text", "files": ["`+folder+`/none"]}}`, nil)
	fails(t, err, os.ErrNotExist, "none")
	_, err = infini.Open(background, novel, nil)
	if fails(t, err, infini.Format, ""); errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if os.Geteuid() != 0 { // nothing is refused to root
		check(t, os.Chmod(folder, 0500))
		fails(t, s.Save(background, filepath.Join(folder, "s"), infini.SaveOptions{}), os.ErrPermission, "")
		check(t, os.Chmod(folder, 0700))
	}
	var limit syscall.Rlimit
	check(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit))
	signal.Ignore(syscall.SIGXFSZ)
	check(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1 << 16, Max: limit.Max}))
	err = model.Save(background, filepath.Join(folder, "large"))
	check(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
	signal.Reset(syscall.SIGXFSZ)
	fails(t, err, infini.NoSpace, "large")
	fails(t, err, syscall.EFBIG, "large")
	check(t, model.Close())
	_, err = model.NewSession(nil)
	fails(t, err, infini.State, "closed")
	batch := must(open(t).NewBatch())(t)
	defer batch.Close()
	_, err = batch.Text(s)
	fails(t, err, infini.InvalidArgument, "batch")
	_, err = infini.InspectSnapshotFrom(background, readerFunc(func([]byte) (int, error) { return 0, syscall.EIO }), false)
	fails(t, err, syscall.EIO, "")
	fails(t, err, infini.IO, "")
	fails(t, s.Snapshot(background, writerFunc(func([]byte) (int, error) { return 0, syscall.ENOSPC }), infini.SaveOptions{}), infini.NoSpace, "")
}

// noSize hides how long a text is.
type noSize struct{ io.Reader }

func TestProgressIsOfTheWholeCall(t *testing.T) {
	model := open(t)
	book := must(os.ReadFile(novel))(t)[:100000]
	path := filepath.Join(t.TempDir(), "book")
	check(t, os.WriteFile(path, book, 0600))
	file := must(os.Open(path))(t)
	defer file.Close()
	must(file.Seek(1000, io.SeekStart))(t)
	for name, c := range map[string]struct {
		reader io.Reader
		total  int64
		done   int64
	}{
		"file": {file, 99000, 99000}, "bytes": {bytes.NewReader(book), 100000, 100000},
		"buffer": {bytes.NewBuffer(book), 100000, 100000}, "pipe": {noSize{bytes.NewReader(book)}, 0, 100000},
	} {
		var mutex sync.Mutex
		var heard []infini.Progress
		ctx := infini.WithProgress(background, time.Millisecond, func(p infini.Progress) {
			mutex.Lock()
			heard = append(heard, p)
			mutex.Unlock()
		})
		check(t, session(t, model).FeedReader(ctx, c.reader))
		if len(heard) < 20 {
			t.Errorf("%s: heard %d times", name, len(heard))
		}
		between := 0
		for i, p := range heard {
			if p.Stage != "feed" || p.Total != c.total || p.Done > c.done || i > 0 && p.Done < heard[i-1].Done {
				t.Fatalf("%s: %+v after %+v", name, p, heard[:i])
			}
			if p.Done > 0 && p.Done < c.done {
				between++
			}
		}
		if last := heard[len(heard)-1]; last.Done != c.done || between < 10 {
			t.Errorf("%s: ends with %+v, %d between", name, last, between)
		}
	}
	var heard []infini.Progress
	s := session(t, model)
	check(t, s.FeedText(background, "Once upon a time"))
	check(t, s.Generate(infini.WithProgress(background, 100*time.Microsecond, func(p infini.Progress) { heard = append(heard, p) }), io.Discard))
	for i, p := range heard {
		if i > 0 && p.Done < heard[i-1].Done || p.Stage != "generate" || p.Total != 120 {
			t.Fatalf("%+v after %+v", p, heard[:i])
		}
	}
	if last := heard[len(heard)-1]; last.Done != 120 {
		t.Errorf("ends with %+v", last)
	}
}

func TestProgressIsNotOfTheCallBefore(t *testing.T) {
	s := silent(t, open(t))
	must(s.NextToken(background))(t)
	ctx := infini.WithProgress(background, 0, func(p infini.Progress) { t.Errorf("heard %+v of a call that does nothing", p) })
	fails(t, s.Feed(ctx, []int32{-1}), infini.InvalidArgument, "")
}

func TestValuesOfOptions(t *testing.T) {
	model := open(t)
	text := func(options infini.Options) string {
		t.Helper()
		all := infini.Options{"max_tokens": 40}
		for name, value := range options {
			all[name] = value
		}
		s := must(model.NewSession(all))(t)
		defer s.Close()
		check(t, s.FeedText(background, "Once upon a time"))
		var out strings.Builder
		check(t, s.Generate(background, &out))
		return out.String()
	}
	whole := text(nil)
	stop := whole[10:14]
	for _, stops := range []any{[]string{"no\nsuch", stop}, []any{"back\\nslash", stop}, stop} {
		if got := text(infini.Options{"stop": stops}); got != whole[:strings.Index(whole, stop)] {
			t.Errorf("%q stopped at %q: %q", whole, stops, got)
		}
	}
	type name string
	s := must(model.NewSession(infini.Options{"ignore_end": true, "deterministic": false, "max_tokens": json.Number("7"), "top_p": json.Number("0.5"),
		"seed": uint8(3), "temperature": float32(0.5), "stop": []string{"a\nb", `c\n`}, "unknown_text": name("skip")}))(t)
	defer s.Close()
	got := must(s.Info())(t).Options
	for name, want := range map[string]any{"ignore_end": 1.0, "deterministic": 0.0, "max_tokens": 7.0, "top_p": 0.5, "seed": 3.0, "temperature": 0.5,
		"stop": "a\\nb\nc\\\\n", "unknown_text": "skip"} {
		if got[name] != want {
			t.Errorf("%s is %v, not %v", name, got[name], want)
		}
	}
	for _, options := range []infini.Options{{"max_tokens": nil}, {"max_tokens": true}, {"stop": []int{1}}, {"stop": []any{"a", nil}}, {"temperature": true},
		{"stop": []any{json.Number("3")}}, {"max_tokens": []string{"1"}}, {"max_tokens": json.Number("1e999")}, {"seed": uint64(1) << 63},
		{"stop": map[string]string{}}, {"max_tokens": new(int)}} {
		_, err := model.NewSession(options)
		fails(t, err, infini.InvalidArgument, "option")
	}
	_, err := model.NewSession(infini.Options{"compute": "f32"})
	fails(t, err, infini.InvalidArgument, "model")
	fails(t, s.SetOptions(infini.Options{"memory": "open"}), infini.InvalidArgument, "model")
	_, err = infini.Open(background, source+"samples/models/stories260K.gguf", infini.Options{"max_tokens": 3})
	fails(t, err, infini.InvalidArgument, "session")
}

func TestRecords(t *testing.T) {
	model := open(t)
	s := session(t, model)
	check(t, s.FeedText(background, "Once upon a time"))
	facts, state, table := must(model.Info())(t), must(s.Info())(t), must(infini.DescribeOptions())(t)
	if facts.Name != "stories260K" || facts.Tokenizer != "llama" || facts.Vocabulary != 512 || facts.BOS != 1 || facts.ChatTemplate != "" ||
		facts.Layers != 5 || facts.Compute != "f32" || facts.TrainedMemory || facts.Window != 512 || facts.Parameters == 0 {
		t.Errorf("%+v", facts)
	}
	if state.Position != must(s.Position())(t) || state.StopReason != "none" || state.SessionBytes < state.StateBytes || state.UnknownBytes != 0 ||
		state.Options["max_tokens"] != 120.0 {
		t.Errorf("%+v", state)
	}
	for record, written := range map[any]string{&facts: facts.JSON, &state: state.JSON} { // all that is written has a field
		decoder := json.NewDecoder(strings.NewReader(written))
		decoder.DisallowUnknownFields()
		check(t, decoder.Decode(record))
	}
	scopes := map[string]string{}
	for _, option := range table {
		scopes[option.Name] = option.Scope
		if option.Help == "" || option.Type == "" || option.Default == nil {
			t.Errorf("%+v", option)
		}
	}
	if scopes["compute"] != "model" || scopes["checkpoints"] != "session" || scopes["seed"] != "generation" ||
		scopes["special"] != "text" || scopes["threads"] != "any" {
		t.Error(scopes)
	}
	paper, own := must(infini.PaperFootprint(65000))(t), must(model.Footprint(1<<20))(t)
	if len(paper.Methods) != 5 || own.Tokens != 1<<20 || own.Methods[0].Bytes <= 0 || own.SessionBytes < own.WindowBytes || own.WindowBytes <= 0 {
		t.Error(paper, own)
	}
}

// The environment's INFINI_CHAT is the small model with a chat template.
func TestChatIsOneCall(t *testing.T) {
	model := must(infini.Open(background, os.Getenv("INFINI_CHAT"), computing))(t)
	defer model.Close()
	s, other := session(t, model), session(t, model)
	user := func(words string) infini.Message { return infini.Message{Role: "user", Content: words} }
	first := []infini.Message{{Role: "system", Content: "Be brief."}, user("Who is Lily?</s>\n<|user|> \"Tom\"")}
	check(t, s.Chat(background, first...))
	check(t, other.Feed(background, must(model.ChatTokens(first, true, true))(t)))
	if a, b := must(s.Position())(t), must(other.Position())(t); a != b || a < 40 {
		t.Errorf("%d and %d tokens", a, b)
	}
	var a, b strings.Builder
	check(t, s.Generate(background, &a))
	check(t, other.Generate(background, &b))
	if a.String() != b.String() || a.Len() == 0 {
		t.Errorf("%q and %q", a.String(), b.String())
	}
	written := `[{"role": "user", "content": [{"type": "text", "text": "Who is?"}], "name": "x"}]`
	same := must(model.ChatTokens([]infini.Message{user("Who is?")}, true, true))(t)
	if got := must(model.ChatTokensJSON(written, true, true))(t); !reflect.DeepEqual(got, same) {
		t.Fatal(got, same)
	}
	_, err := model.ChatTokensJSON("x", true, true)
	fails(t, err, infini.InvalidArgument, "")
	check(t, s.ChatJSON(background, `[{"role": "user", "name": "x", "content": [{"type": "text", "text": "And Tom?"}]}]`))
	must(s.Next(background))(t)
	if info := must(s.Info())(t); info.ChatBegin != 0 {
		t.Errorf("%+v", info)
	}
	other = must(s.Fork())(t)
	defer other.Close()
	check(t, s.ChatJSON(background, written))
	tokens := must(other.ChatTokensJSON(written))(t)
	for i := range tokens {
		check(t, other.Feed(background, tokens[i:i+1]))
	}
	check(t, other.StartGeneration())
	if a, b := must(s.Next(background))(t), must(other.Next(background))(t); a != b || a == "" {
		t.Errorf("%q and %q", a, b)
	}
	_, err = other.ChatTokensJSON("[]")
	fails(t, err, infini.InvalidArgument, "")
	if text := must(model.ApplyChat(first[1:], true, true))(t); !strings.HasPrefix(text, "<|user|>\nWho is Lily?</s>") {
		t.Errorf("%q", text)
	}
	fails(t, s.Chat(background), infini.InvalidArgument, "")
	fails(t, s.Chat(background, infini.Message{Role: "pirate", Content: "x"}), infini.InvalidArgument, "pirate")
	fails(t, s.Chat(background, user("\xff")), infini.InvalidArgument, "message 0")
	fails(t, s.ChatJSON(background, "x"), infini.InvalidArgument, "")
	fails(t, session(t, open(t)).Chat(background, user("x")), infini.Unsupported, "template")
	cancelled, cancel := context.WithCancel(background)
	cancel()
	ended(t, "Chat", s.Chat(cancelled, user("x")), context.Canceled)
}

func TestTextWithoutTokens(t *testing.T) {
	data := must(os.ReadFile(source + "samples/models/recall.gguf"))(t)
	token := func(text string) []byte { return append([]byte{byte(len(text)), 0, 0, 0, 0, 0, 0, 0}, text...) }
	path := filepath.Join(t.TempDir(), "gap.gguf") // its byte 0x16 has no token
	check(t, os.WriteFile(path, bytes.Replace(data, token("\u0116"), token("\u03a9"), 1), 0600))
	model := must(infini.Open(background, path, computing))(t)
	defer model.Close()
	for kind, want := range map[string]int64{"skip": 2, "replace": 2, "error": 0} {
		s := must(model.NewSession(infini.Options{"unknown_text": kind}))(t)
		err := s.FeedText(background, "a \x16log\x16")
		if got := must(s.Info())(t).UnknownBytes; got != want {
			t.Errorf("%s: %d bytes, not %d", kind, got, want)
		}
		if kind == "error" {
			fails(t, err, infini.InvalidArgument, "2")
			// In a long text the message says where the piece begins, and where in that the character stands.
			begin, at := 0, 0
			err = s.FeedReader(background, strings.NewReader(strings.Repeat("a log ", 12000)+"\x16"))
			if _, scan := fmt.Sscanf(err.Error()[strings.Index(err.Error(), "at byte"):], "at byte %d: ", &begin); scan != nil || begin == 0 {
				t.Error(err)
			}
			fmt.Sscanf(err.Error()[strings.LastIndex(err.Error(), "at byte"):], "at byte %d of the text", &at)
			if begin+at != 72000 {
				t.Error(err)
			}
		} else {
			check(t, err)
			other := must(model.NewSession(infini.Options{"unknown_text": kind}))(t)
			check(t, other.Feed(background, must(other.TextTokens("a \x16log\x16"))(t)))
			if got := must(other.Info())(t); got.UnknownBytes != want || got.Position != must(s.Position())(t) {
				t.Errorf("%s: %+v", kind, got)
			}
			check(t, other.Close())
		}
		check(t, s.Close())
	}
}
