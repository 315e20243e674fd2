package tests

import (
	"errors"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"example.org/infini"
)

func TestClosingTwiceAndUseAfter(t *testing.T) {
	model := must(infini.Open(background, source+"samples/models/stories260K.gguf", computing))(t)
	s := must(model.NewSession(greedy))(t)
	check(t, model.Close())
	check(t, model.Close())
	if got := must(transcript(s))(t); got != golden(t) { // the session keeps its model
		t.Error(got)
	}
	check(t, s.Close())
	check(t, s.Close())
	_, err := model.NewSession(nil)
	fails(t, err, os.ErrClosed, "the model is closed")
	_, err = model.Tokenize("a", false, false)
	fails(t, err, os.ErrClosed, "the model is closed")
	fails(t, s.FeedText(background, "a"), os.ErrClosed, "the session is closed")
	fails(t, s.Cancel(), os.ErrClosed, "the session is closed")
	_, err = s.Next(background)
	fails(t, err, os.ErrClosed, "the session is closed")
	_, err = s.Fork()
	fails(t, err, os.ErrClosed, "the session is closed")
}

func TestCloseDuringGenerate(t *testing.T) {
	model := open(t)
	for i := 0; i < 50; i++ {
		s := must(model.NewSession(infini.Options{"max_tokens": -1, "threads": 1}))(t)
		check(t, s.FeedText(background, "Once upon a time"))
		ended := make(chan error)
		for k := 0; k < 2; k++ { // the second waits for its turn
			go func() {
				for {
					if _, err := s.Next(background); err != nil && err != io.EOF {
						ended <- err
						return
					}
				}
			}()
		}
		time.Sleep(time.Duration(i) * 100 * time.Microsecond)
		check(t, s.Close())
		for k := 0; k < 2; k++ {
			if err := <-ended; !errors.Is(err, os.ErrClosed) && !errors.Is(err, infini.Cancelled) {
				t.Fatal(err)
			}
		}
	}
}

func TestCloseDuringFeed(t *testing.T) {
	s := must(open(t).NewSession(greedy))(t)
	ended, begun := make(chan error), make(chan struct{})
	var once sync.Once
	ctx := infini.WithProgress(background, time.Millisecond, func(p infini.Progress) {
		if p.Done > 0 {
			once.Do(func() { close(begun) })
		}
	})
	go func() { ended <- s.Feed(ctx, make([]int32, 5000000)) }()
	<-begun
	check(t, s.Close())
	fails(t, <-ended, infini.Cancelled, "")
}

// resident returns the memory that the process holds, in bytes.
func resident(t testing.TB) int {
	t.Helper()
	fields := strings.Fields(string(must(os.ReadFile("/proc/self/statm"))(t)))
	return must(strconv.Atoi(fields[1]))(t) * os.Getpagesize()
}

func TestThousandOpenCloseCyclesDoNotGrow(t *testing.T) {
	cycle := func(n int) {
		for i := 0; i < n; i++ {
			model := must(infini.Open(background, source+"samples/models/stories260K.gguf", computing))(t)
			s := must(model.NewSession(greedy))(t)
			check(t, s.FeedText(background, "Once"))
			must(s.Next(background))(t)
			check(t, s.Close())
			check(t, model.Close())
		}
		runtime.GC()
	}
	cycle(200)
	before := resident(t)
	cycle(1000)
	if grown := resident(t) - before; grown > 16<<20 {
		t.Errorf("grew by %d bytes", grown)
	}
}

func TestGarbageCollectorFreesWhatIsNotClosed(t *testing.T) {
	model := open(t)
	drop := func(n int) {
		for i := 0; i < n; i++ { // the last use of each session is inside its own call
			if err := must(model.NewSession(greedy))(t).FeedText(background, "Once upon a time 😀"); err != nil {
				t.Fatal(err)
			}
			if i%5 == 0 {
				runtime.GC()
			}
		}
	}
	drop(100)
	before := resident(t)
	drop(1000) // a session takes a few megabytes
	if grown := resident(t) - before; grown > 1<<29 {
		t.Errorf("grew by %d bytes", grown)
	}
}

func TestCollectingDuringCalls(t *testing.T) {
	model, want := open(t), golden(t)
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	}()
	defer close(stop)
	for i := 0; i < 20; i++ {
		s := must(model.NewSession(greedy))(t)
		if got := must(transcript(s))(t); got != want {
			t.Fatal(got)
		}
	}
}

func TestEightGoroutinesWithTheirOwnSessions(t *testing.T) {
	model, want := open(t), golden(t)
	var wait sync.WaitGroup
	for i := 0; i < 8; i++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			s, err := model.NewSession(greedy)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			for k := 0; k < 5; k++ {
				got, err := transcript(s)
				if err != nil || got != want {
					t.Errorf("%v, got:\n%s", err, got)
				}
				if err := s.Reset(); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	wait.Wait()
}

func TestOneSessionOfManyGoroutinesTakesTurns(t *testing.T) {
	s := session(t, open(t))
	check(t, s.FeedText(background, "Once"))
	var wait sync.WaitGroup
	for i := 0; i < 8; i++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for k := 0; k < 50; k++ {
				if text, err := s.Next(background); err != nil && err != io.EOF || !utf8.ValidString(text) {
					t.Errorf("%q %v", text, err)
				}
			}
		}()
	}
	wait.Wait()
}
