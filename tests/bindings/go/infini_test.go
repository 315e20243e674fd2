package tests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"example.org/infini"
)

const source = "../../../"

var (
	background = context.Background()
	computing  = infini.Options{"compute": "f32", "threads": 1} // of a model
	greedy     = infini.Options{"threads": 1, "temperature": 0.0, "max_tokens": 120}
)

func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func fails(t testing.TB, err error, kind error, words string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("%v is not %v", err, kind)
	}
	if !strings.Contains(err.Error(), words) {
		t.Fatalf("%q does not say %q", err, words)
	}
}

func open(t testing.TB) *infini.Model {
	t.Helper()
	model := must(infini.Open(background, source+"samples/models/stories260K.gguf", computing))(t)
	t.Cleanup(func() { model.Close() })
	return model
}

func session(t testing.TB, model *infini.Model) *infini.Session {
	t.Helper()
	s := must(model.NewSession(greedy))(t)
	t.Cleanup(func() { s.Close() })
	return s
}

func transcript(s *infini.Session) (string, error) {
	var out strings.Builder
	for _, prompt := range []string{"Once upon a time", " Then Tom 😀 found a big red ball."} {
		fmt.Fprintf(&out, "> %s\n", prompt)
		if err := s.FeedText(background, prompt); err != nil {
			return "", err
		}
		if err := s.Generate(background, &out); err != nil {
			return "", err
		}
		fmt.Fprintln(&out)
	}
	position, err := s.Position()
	fmt.Fprintf(&out, "tokens %d\n", position)
	return out.String(), err
}

func golden(t testing.TB) string {
	t.Helper()
	return string(must(os.ReadFile(source + "tests/bindings/golden.txt"))(t))
}

func TestGoldenTranscript(t *testing.T) {
	if got := must(transcript(session(t, open(t))))(t); got != golden(t) {
		t.Fatalf("got:\n%s\nwant:\n%s", got, golden(t))
	}
}

func TestStatusesAreThoseOfTheLibrary(t *testing.T) {
	known := map[infini.Status]string{infini.InvalidArgument: "INVALID_ARGUMENT", infini.UnknownOption: "UNKNOWN_OPTION",
		infini.BufferTooSmall: "BUFFER_TOO_SMALL", infini.IO: "IO", infini.NoSpace: "NO_SPACE", infini.Format: "FORMAT",
		infini.Truncated: "TRUNCATED", infini.ModelMismatch: "MODEL_MISMATCH", infini.VersionTooNew: "VERSION",
		infini.Checksum: "CHECKSUM", infini.OutOfMemory: "OUT_OF_MEMORY", infini.Cancelled: "CANCELLED",
		infini.State: "STATE", infini.Unsupported: "UNSUPPORTED", infini.Internal: "INTERNAL", 0: "OK", 1: "END"}
	for number := infini.Status(0); number < 3000; number++ {
		want, ok := known[number]
		if !ok {
			want = "UNKNOWN"
		}
		if number.String() != want {
			t.Errorf("%d is %s, not %s", int(number), number, want)
		}
	}
}

func TestErrorsCarryStatusAndMessage(t *testing.T) {
	_, err := infini.Open(background, "/nowhere/😀.gguf", nil)
	fails(t, err, infini.IO, "/nowhere/😀.gguf")
	var e *infini.Error
	if !errors.As(err, &e) || e.Status != infini.IO || errors.Is(err, infini.Format) {
		t.Fatal(err)
	}
	_, err = infini.Open(background, "a\x00b", nil)
	fails(t, err, infini.InvalidArgument, "zero byte")
	model := open(t)
	_, err = model.NewSession(infini.Options{"no such": 1})
	fails(t, err, infini.UnknownOption, "max_tokens")
	_, err = model.NewSession(infini.Options{"threads": -7})
	fails(t, err, infini.InvalidArgument, "threads")
	_, err = model.NewSession(infini.Options{"threads": []int{1}})
	fails(t, err, infini.InvalidArgument, "[]int")
	s := session(t, model)
	_, err = s.Next(background)
	fails(t, err, infini.State, "")
	fails(t, s.Feed(background, []int32{1, 999999}), infini.InvalidArgument, "999999")
	fails(t, s.FeedText(background, "abc\xff"), infini.InvalidArgument, "3")
	_, err = model.Fact("nothing of the kind")
	fails(t, err, infini.InvalidArgument, "layers")
	_, err = infini.Create(background, "{", nil)
	fails(t, err, infini.InvalidArgument, "")
}

func TestErrorsOfManyGoroutinesDoNotMix(t *testing.T) {
	var wait sync.WaitGroup
	for i := 0; i < 64; i++ {
		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			for k := 0; k < 100; k++ {
				path := fmt.Sprintf("/nowhere/%d-%d", i, k)
				if _, err := infini.Open(background, path, nil); err == nil || !strings.Contains(err.Error(), path) {
					t.Errorf("%v does not name %s", err, path)
				}
				runtime.Gosched()
			}
		}(i)
	}
	wait.Wait()
}

func TestUnicodeBeyondTheBasicPlane(t *testing.T) {
	model := open(t)
	for _, text := range []string{"😀", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 🏳️‍🌈 and 漢字", "zero \x00 byte", "é\u0301"} {
		tokens := must(model.Tokenize(text, false, true))(t)
		if n := must(model.TokenCount(text, false, true))(t); n != len(tokens) {
			t.Errorf("%q: %d tokens, counted %d", text, len(tokens), n)
		}
		if got := must(model.Detokenize(tokens, false, true))(t); got != text {
			t.Errorf("got %q of %q", got, text)
		}
	}
	path := filepath.Join(t.TempDir(), "😀 模型.gguf")
	check(t, model.Save(background, path))
	again := must(infini.Open(background, path, nil))(t)
	defer again.Close()
	if a, b := must(again.Fact("fingerprint"))(t), must(model.Fact("fingerprint"))(t); a != b {
		t.Errorf("fingerprints %s and %s", a, b)
	}
	check(t, infini.Quantize(background, path, path, "q8_0", infini.Options{"threads": 1}))
	small := must(infini.Open(background, path, nil))(t)
	defer small.Close()
	if types := must(small.Fact("tensor_types"))(t); !strings.Contains(types, "Q8_0") {
		t.Errorf("quantised to %s", types)
	}
	fails(t, infini.Quantize(background, path, path, "q9", nil), infini.InvalidArgument, "IQ4_XS")
}

func TestEmptyAndHugeInputs(t *testing.T) {
	model := open(t)
	s := session(t, model)
	check(t, s.Feed(background, nil))
	check(t, s.Feed(background, []int32{}))
	check(t, s.FeedReader(background, strings.NewReader("")))
	if p := must(s.Position())(t); p != 0 {
		t.Errorf("position %d", p)
	}
	if tokens := must(model.Tokenize("", false, false))(t); len(tokens) != 0 {
		t.Errorf("%d tokens of nothing", len(tokens))
	}
	if text := must(model.Detokenize(nil, false, false))(t); text != "" {
		t.Errorf("%q of nothing", text)
	}
	huge := strings.Repeat("All work and no play makes Jack 😀 a dull boy.\n", 200000)
	tokens := must(model.Tokenize(huge, false, true))(t)
	if got := must(model.Detokenize(tokens, false, true))(t); got != huge {
		t.Errorf("%d bytes came back as %d", len(huge), len(got))
	}
	novel := must(os.ReadFile(source + "samples/texts/wuthering_heights.txt"))(t)[:100000]
	check(t, s.FeedReader(background, oneByteLess{bytes.NewReader(novel)}))
	if p := must(s.Position())(t); p < int64(len(novel)/8) {
		t.Errorf("position %d after %d bytes", p, len(novel))
	}
}

// oneByteLess reads in odd pieces, so that characters and words are cut.
type oneByteLess struct{ r io.Reader }

func (o oneByteLess) Read(p []byte) (int, error) { return o.r.Read(p[:(len(p)+1)/2-1]) }

func TestReaderErrorsComeBack(t *testing.T) {
	s := session(t, open(t))
	broken := errors.New("broken")
	r, w := io.Pipe()
	go func() { _, _ = w.Write([]byte("some text")); w.CloseWithError(broken) }()
	fails(t, s.FeedReader(background, r), broken, "broken")
	fails(t, s.FeedReader(background, strings.NewReader("abc\xe2\x82")), infini.InvalidArgument, "")
}

func TestNumbers(t *testing.T) {
	model := open(t)
	s := session(t, model)
	tokens := must(model.Tokenize("Once upon a time there was", false, true))(t)
	logits := must(s.FeedLogits(background, tokens))(t)
	vocabulary, width := must(model.Vocabulary())(t), must(model.Width())(t)
	if vocabulary != 512 || width != 64 || len(logits) != vocabulary*len(tokens) {
		t.Fatal(vocabulary, width, len(logits))
	}
	last := must(s.Logits())(t)
	for i, value := range logits[len(logits)-vocabulary:] {
		if math.Abs(float64(value-last[i])) > 1e-6 {
			t.Fatalf("logit %d: %v, not %v", i, value, last[i])
		}
	}
	if e := must(s.Embedding())(t); len(e) != width {
		t.Errorf("embedding of %d", len(e))
	}
	check(t, s.Reset())
	nll := must(s.Score(background, tokens))(t)
	if !math.IsNaN(float64(nll[0])) || nll[1] <= 0 {
		t.Errorf("nll %v", nll)
	}
	var sum float64
	for _, x := range nll[1:] {
		sum += float64(x)
	}
	check(t, s.Reset())
	total, scored, err := s.ScoreText(background, "Once upon a time there was")
	check(t, err)
	if scored != int64(len(tokens)-1) || math.Abs(total-sum) > 1e-3 {
		t.Errorf("%v over %d, not %v over %d", total, scored, sum, len(tokens)-1)
	}
	check(t, s.CloseSegment())
	if bos, eos := must(model.BOS())(t), must(model.EOS())(t); bos != 1 || eos != 2 ||
		!must(model.TokenIsEnd(eos))(t) || !must(model.TokenIsControl(bos))(t) || must(model.TokenIsEnd(300))(t) {
		t.Error("special tokens", bos, eos)
	}
	_, err = model.ApplyChat([]infini.Message{{Role: "user", Content: "Hello"}}, true, true)
	fails(t, err, infini.Unsupported, "chat template")
	if infini.Version() == "" {
		t.Error("no version")
	}
}

func TestForkGoesOnAlike(t *testing.T) {
	s := session(t, open(t))
	check(t, s.FeedText(background, "The cat 😀"))
	fork := must(s.Fork())(t)
	defer fork.Close()
	var a, b strings.Builder
	check(t, s.Generate(background, &a))
	check(t, fork.Generate(background, &b))
	if a.String() != b.String() || a.Len() == 0 {
		t.Errorf("%q and %q", a.String(), b.String())
	}
}

func TestSnapshotsGoOnAlike(t *testing.T) {
	model := open(t)
	s := session(t, model)
	check(t, s.FeedText(background, "The cat 😀"))
	path := filepath.Join(t.TempDir(), "😀.snapshot")
	saved := infini.SaveOptions{Name: "cat 😀", Note: "a note"}
	check(t, s.Save(background, path, saved))
	var data bytes.Buffer
	check(t, s.Snapshot(background, &data, saved))
	info := must(infini.InspectSnapshot(background, path, true))(t)
	if again := must(infini.InspectSnapshotFrom(background, bytes.NewReader(data.Bytes()), true))(t); info.JSON != again.JSON {
		t.Error(info.JSON, again.JSON)
	}
	if info.Kind != "session" || info.Name != saved.Name || info.Note != saved.Note || info.Library != infini.Version() ||
		info.Model.Name != "stories260K" || info.View.Position != must(s.Position())(t) || info.Size != int64(data.Len()) ||
		len(info.Sections) == 0 || info.Sections[0].ContentChecksum == "" || info.Options["max_tokens"] != 120.0 {
		t.Errorf("%+v", info)
	}
	var want strings.Builder
	check(t, s.Generate(background, &want))
	for _, restore := range []func(*infini.Session) error{
		func(s *infini.Session) error { return s.Restore(background, path) },
		func(s *infini.Session) error { return s.RestoreFrom(background, bytes.NewReader(data.Bytes())) },
	} {
		again := session(t, model)
		check(t, restore(again))
		var got strings.Builder
		check(t, again.Generate(background, &got))
		if got.String() != want.String() {
			t.Errorf("%q, not %q", got.String(), want.String())
		}
		damaged := append([]byte(nil), data.Bytes()...)
		damaged[len(damaged)/2] ^= 1
		before := must(again.Position())(t)
		fails(t, again.RestoreFrom(background, bytes.NewReader(damaged)), infini.Checksum, "")
		if after := must(again.Position())(t); after != before {
			t.Errorf("position %d, not %d", after, before)
		}
	}
	other := must(infini.Create(background, `{"layers": 1, "tokenizer": ""}`, nil))(t)
	defer other.Close()
	fails(t, session(t, other).Restore(background, path), infini.ModelMismatch, "")
	var memory bytes.Buffer
	check(t, s.Snapshot(background, &memory, infini.SaveOptions{MemoryOnly: true}))
	check(t, s.RestoreFrom(background, &memory))
	_, err := s.Next(background)
	fails(t, err, infini.State, "")
	fails(t, s.Save(background, "/nowhere/x", saved), infini.IO, "/nowhere/x")
}

func TestRewind(t *testing.T) {
	s := session(t, open(t))
	check(t, s.FeedText(background, "The cat sat on"))
	position := must(s.Position())(t)
	check(t, s.FeedText(background, " the mat"))
	check(t, s.Rewind(position))
	if p := must(s.Position())(t); p != position || must(s.RewindLimit())(t) > p {
		t.Error(p, position)
	}
	fails(t, s.Rewind(position+1000), infini.State, "")
}

func TestTokensAndRuns(t *testing.T) {
	s := session(t, open(t))
	check(t, s.SetOptions(infini.Options{"max_tokens": 5}))
	check(t, s.FeedText(background, "Once"))
	for run := 0; run < 2; run++ {
		for i := 0; i < 5; i++ {
			must(s.NextToken(background))(t)
		}
		if _, err := s.NextToken(background); err != io.EOF {
			t.Fatal(err)
		}
		if reason := must(s.StopReason())(t); reason != "max_tokens" {
			t.Error(reason)
		}
	}
}

func TestContextCancelsAndSessionGoesOn(t *testing.T) {
	model := open(t)
	s := session(t, model)
	tokens := make([]int32, 2000000)
	for i := range tokens {
		tokens[i] = 300
	}
	ctx, cancel := context.WithTimeout(background, time.Second)
	defer cancel()
	var heard infini.Progress
	err := s.Feed(infini.WithProgress(ctx, 5*time.Millisecond, func(p infini.Progress) { heard = p }), tokens)
	fails(t, err, infini.Cancelled, "")
	fails(t, err, context.DeadlineExceeded, "")
	if heard.Stage != "feed" || heard.Done <= 0 || heard.Total != int64(len(tokens)) {
		t.Errorf("heard %+v", heard)
	}
	if p := must(s.Position())(t); p <= 0 || p >= int64(len(tokens)) {
		t.Errorf("position %d", p)
	}
	_, err = s.Next(ctx)
	fails(t, err, context.DeadlineExceeded, "")
	must(s.Next(background))(t)
	_, err = infini.Open(ctx, source+"samples/models/stories260K.gguf", nil)
	fails(t, err, context.DeadlineExceeded, "")
	check(t, s.Cancel()) // no call runs
	must(s.Next(background))(t)
}

func TestLog(t *testing.T) {
	for {
		_, message, err := infini.NextLog()
		if err == io.EOF {
			break
		}
		check(t, err)
		if !utf8.ValidString(message) || message == "" {
			t.Errorf("%q", message)
		}
	}
}
