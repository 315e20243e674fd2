package main

// Many at once: what all sessions write goes through one batch of the library, token by token. Who has its turn is one of
// `turns`.

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"example.org/infini"
)

const maxBehind = 1 << 16 // bytes that a client may be behind what is written for it

// turns lets so many in at once. Of those that wait the client is let in whose last turn was the longest ago, so that one with many
// requests does not hold up others.
type turns struct {
	mutex   sync.Mutex
	most    int // at once
	bound   int // of those that wait; -1: none
	inside  int
	waiting int
	queues  map[string][]chan struct{} // of clients that wait
	last    map[string]int64           // when a client was let in last or, where that is not known, came
	clock   int64                      // of these
}

const maxKnown = 1 << 12 // clients of which it is known when they were let in

func newTurns(most, bound int) *turns {
	if most < 1 {
		most = 1
	}
	return &turns{most: most, bound: bound, queues: map[string][]chan struct{}{}, last: map[string]int64{}}
}

// take waits for a turn, which ends with leave.
func (t *turns) take(ctx context.Context, client string) error { return t.wait(ctx, client, true) }

// again waits for a turn, which is not refused, since the request has had one.
func (t *turns) again(ctx context.Context, client string) error { return t.wait(ctx, client, false) }

func (t *turns) wait(ctx context.Context, client string, bounded bool) error {
	t.mutex.Lock()
	if t.inside < t.most {
		t.inside++
		t.stamp(client)
		t.mutex.Unlock()
		return nil
	}
	if bounded && t.bound >= 0 && t.waiting >= t.bound {
		t.mutex.Unlock()
		return &refusal{429, "QUEUE_FULL", fmt.Sprintf("%d requests wait already; try again later", t.waiting)}
	}
	let := make(chan struct{})
	if t.last[client] == 0 {
		t.stamp(client)
	}
	t.queues[client] = append(t.queues[client], let)
	t.waiting++
	t.mutex.Unlock()
	select {
	case <-let:
		return nil
	case <-ctx.Done():
	}
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for i, other := range t.queues[client] {
		if other == let {
			t.drop(client, i)
			return ctx.Err()
		}
	}
	t.next() // it was let in meanwhile
	return ctx.Err()
}

func (t *turns) leave() {
	t.mutex.Lock()
	t.next()
	t.mutex.Unlock()
}

// next gives a turn that ends to who waits.
func (t *turns) next() {
	if t.waiting == 0 {
		t.inside--
		return
	}
	next := ""
	for client := range t.queues {
		if next == "" || t.last[client] < t.last[next] {
			next = client
		}
	}
	close(t.queues[next][0])
	t.drop(next, 0)
	t.stamp(next)
}

func (t *turns) stamp(client string) {
	if len(t.last) >= maxKnown {
		for other := range t.last {
			if t.queues[other] == nil {
				delete(t.last, other)
			}
		}
	}
	t.clock++
	t.last[client] = t.clock
}

func (t *turns) drop(client string, i int) {
	t.waiting--
	t.queues[client] = append(t.queues[client][:i:i], t.queues[client][i+1:]...)
	if len(t.queues[client]) == 0 {
		delete(t.queues, client)
	}
}

// counts returns how many are inside and how many wait.
func (t *turns) counts() (inside, waiting int) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return t.inside, t.waiting
}

// full reports whether nobody else may wait.
func (t *turns) full() bool {
	_, waiting := t.counts()
	return t.bound > 0 && waiting >= t.bound
}

// writer lets sessions write together. A run joins and leaves between two tokens.
type writer struct {
	batch   *infini.Batch
	mutex   sync.Mutex
	joining []*run
	busy    bool // its goroutine is there
}

// run is what one request has its session write. It ends with its context.
type run struct {
	context context.Context
	session *infini.Session
	more    chan struct{} // holds one thing once there is more to take

	mutex   sync.Mutex
	text    strings.Builder
	writing bool // it is in the batch, or will be
	ended   bool
	reason  string
	failure error
}

// begin lets a session write; the caller takes what comes, until it has ended.
func (w *writer) begin(ctx context.Context, session *infini.Session) *run {
	r := &run{context: ctx, session: session, more: make(chan struct{}, 1)}
	w.join(r)
	return r
}

func (w *writer) join(r *run) {
	r.writing = true
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.joining = append(w.joining, r)
	if !w.busy {
		w.busy = true
		go w.write()
	}
}

// take returns what was written since, "" where nothing was when ctx ended, and io.EOF when the run has ended and has left the
// batch, with its reason in r.
func (w *writer) take(ctx context.Context, r *run) (text string, err error) {
	for {
		r.mutex.Lock()
		text = r.text.String()
		r.text.Reset()
		if !r.writing && !r.ended { // it has waited for us
			w.join(r)
		}
		ended, failure := r.ended, r.failure
		r.mutex.Unlock()
		switch {
		case text != "":
			return text, nil
		case ended && failure != nil:
			return "", failure
		case ended:
			return "", io.EOF
		}
		select {
		case <-r.more:
		case <-ctx.Done():
			return "", nil
		}
	}
}

// give hands over what was written. It returns whether the client is so far behind that the run must wait.
func (r *run) give(text string) (behind bool) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.text.WriteString(text)
	r.writing = r.text.Len() < maxBehind
	if text != "" {
		r.tell()
	}
	return !r.writing
}

// end hands over the last of it.
func (r *run) end(text, reason string, failure error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.text.WriteString(text)
	r.writing, r.ended, r.reason, r.failure = false, true, reason, failure
	r.tell()
}

func (r *run) tell() {
	select {
	case r.more <- struct{}{}:
	default:
	}
}

// write goes on until no run is left.
func (w *writer) write() {
	var runs []*run // in the order of the batch
	for {
		w.mutex.Lock()
		joining := w.joining
		w.joining = nil
		w.busy = len(runs)+len(joining) > 0
		w.mutex.Unlock()
		if len(runs)+len(joining) == 0 {
			return
		}
		for _, r := range joining {
			if err := w.batch.Add(r.session); err != nil {
				r.end("", "", err)
			} else {
				runs = append(runs, r)
			}
		}
		staying := runs[:0:0]
		for _, r := range runs {
			if r.context.Err() != nil {
				w.leave(r, "", "cancelled", nil)
			} else {
				staying = append(staying, r)
			}
		}
		runs, staying = staying, runs[:0:0]
		if len(runs) == 0 {
			continue
		}
		tokens, failures := w.step(runs)
		for i, r := range runs {
			text, err := w.batch.Text(r.session)
			if failures[i] != nil {
				err = failures[i]
			}
			switch {
			case err != nil:
				w.leave(r, text, "", err)
			case tokens[i] < 0:
				reason, err := r.session.StopReason()
				w.leave(r, text, reason, err)
			case r.give(text):
				_ = w.batch.Remove(r.session) // until the client has taken it
			default:
				staying = append(staying, r)
			}
		}
		runs = staying
	}
}

// leave takes a run out of the batch, and tells it then.
func (w *writer) leave(r *run, text, reason string, failure error) {
	_ = w.batch.Remove(r.session)
	r.end(text, reason, failure)
}

// step lets each run write a token; -1: it has ended. Where they cannot go together, each goes alone, so that the fault of one is
// not that of the others.
func (w *writer) step(runs []*run) (tokens []int32, failures []error) {
	failures = make([]error, len(runs))
	tokens, err := w.batch.Next(context.Background())
	if err == nil {
		return tokens, failures
	}
	tokens = make([]int32, len(runs))
	for i, r := range runs {
		tokens[i] = -1
		if err == io.EOF {
			continue
		}
		token, failure := r.session.NextToken(r.context)
		if tokens[i] = token; failure != nil && failure != io.EOF {
			failures[i] = failure
		}
	}
	return tokens, failures
}
