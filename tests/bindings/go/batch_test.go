package tests

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"example.org/infini"
)

var prompts = []string{"Once upon a time", "The cat 😀", "Tom and Lily went to"}

// batchSessions makes a session for each prompt, the first one with maxTokens, each other one with one more.
func batchSessions(t testing.TB, model *infini.Model, maxTokens int) []*infini.Session {
	t.Helper()
	var sessions []*infini.Session
	for i, prompt := range prompts {
		s := must(model.NewSession(infini.Options{"temperature": 0, "threads": 1, "deterministic": true, "max_tokens": maxTokens + i}))(t)
		t.Cleanup(func() { s.Close() })
		check(t, s.FeedText(background, prompt))
		sessions = append(sessions, s)
	}
	return sessions
}

func TestBatchWritesWhatItsSessionsWouldAlone(t *testing.T) {
	model := open(t)
	batch := must(model.NewBatch())(t)
	defer batch.Close()
	var alone, together [3]strings.Builder
	for i, s := range batchSessions(t, model, 40) {
		check(t, s.Generate(background, &alone[i]))
	}
	sessions := batchSessions(t, model, 40)
	for _, s := range sessions {
		check(t, batch.Add(s))
	}
	for call := 0; call <= 40; call++ { // the first has 40 tokens, the second 41, the third 42
		tokens := must(batch.Next(background))(t)
		for i, token := range tokens {
			if (token < 0) != (call >= 40+i) {
				t.Fatalf("call %d, session %d: token %d", call, i, token)
			}
			together[i].WriteString(must(batch.Text(sessions[i]))(t))
		}
	}
	check(t, sessions[0].Close())
	_, err := batch.Next(background)
	fails(t, err, os.ErrClosed, "the session is closed")
	check(t, batch.Remove(sessions[0]))
	if left := batch.Sessions(); len(left) != 2 || left[0] != sessions[1] || left[1] != sessions[2] {
		t.Fatal(left)
	}
	if tokens := must(batch.Next(background))(t); tokens[0] != -1 || tokens[1] < 0 {
		t.Fatal(tokens)
	}
	for i := 1; i < 3; i++ {
		together[i].WriteString(must(batch.Text(sessions[i]))(t))
	}
	for i := range alone {
		if alone[i].String() != together[i].String() {
			t.Errorf("alone: %q\ntogether: %q", alone[i].String(), together[i].String())
		}
	}
}

func TestBatchRefusals(t *testing.T) {
	model := open(t)
	batch := must(model.NewBatch())(t)
	if _, err := batch.Next(background); err != io.EOF {
		t.Fatal(err)
	}
	s := session(t, model)
	check(t, batch.Add(s))
	fails(t, batch.Add(s), infini.InvalidArgument, "")
	_, err := batch.Next(background)
	fails(t, err, infini.State, "") // it was fed nothing
	check(t, s.FeedText(background, "Once"))
	ctx, cancel := context.WithCancel(background)
	cancel()
	_, err = batch.Next(ctx)
	fails(t, err, context.Canceled, "")
	must(batch.Next(background))(t)
	other := must(infini.Create(background, `{"layers": 1}`, nil))(t)
	defer other.Close()
	stranger := session(t, other)
	fails(t, batch.Add(stranger), infini.InvalidArgument, "")
	fails(t, batch.Remove(stranger), infini.ErrNotInBatch, "")
	_, err = batch.Text(stranger)
	fails(t, err, infini.ErrNotInBatch, "")
	check(t, model.Close())
	must(s.Next(background))(t) // by itself
	check(t, batch.Close())
	check(t, batch.Close())
	_, err = batch.Next(background)
	fails(t, err, os.ErrClosed, "the batch is closed")
	fails(t, batch.Add(s), os.ErrClosed, "the batch is closed")
	must(s.Next(background))(t)
}

func TestBatchCloseDuringCalls(t *testing.T) {
	model := open(t)
	for round := 0; round < 20; round++ {
		sessions := batchSessions(t, model, 1<<20)
		one, two := must(model.NewBatch())(t), must(model.NewBatch())(t) // the same sessions, in another order
		for i := range sessions {
			check(t, one.Add(sessions[i]))
			check(t, two.Add(sessions[2-i]))
		}
		var wait, alone sync.WaitGroup
		for _, batch := range []*infini.Batch{one, two} {
			wait.Add(1)
			go func(batch *infini.Batch) {
				defer wait.Done()
				for {
					if _, err := batch.Next(background); err != nil {
						if !errors.Is(err, os.ErrClosed) && !errors.Is(err, infini.Cancelled) {
							t.Error(err)
						}
						return
					}
				}
			}(batch)
		}
		alone.Add(1)
		go func() {
			defer alone.Done()
			for i := 0; i < 5; i++ {
				if _, err := sessions[1].NextToken(background); err != nil && err != io.EOF {
					t.Error(err)
				}
			}
		}()
		time.Sleep(time.Duration(round) * time.Millisecond)
		alone.Wait()
		if round%2 == 0 {
			check(t, sessions[0].Close())
		}
		check(t, one.Close())
		check(t, two.Close())
		wait.Wait()
	}
}

func TestBatchIsCollectedWithItsSessions(t *testing.T) {
	model := open(t)
	for i := 0; i < 200; i++ {
		batch := must(model.NewBatch())(t)
		for k := 0; k < 2; k++ {
			s := must(model.NewSession(greedy))(t)
			check(t, s.FeedText(background, "Once"))
			check(t, batch.Add(s))
		}
		must(batch.Next(background))(t)
		if i%20 == 0 {
			runtime.GC()
		}
	}
}
