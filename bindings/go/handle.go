package infini

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"example.org/infini/internal/native"
)

var background = context.Background()

// handle owns one object of the library. It counts the calls that use it, and its owner as one more: the last to let go
// frees it, so that closing is safe at any time, from any goroutine, any number of times.
type handle struct {
	pointer uintptr
	kind    string
	free    func(uintptr)
	users   atomic.Int64
	turn    chan struct{} // holds one thing while a call has its turn
	task    uintptr       // what such a call left for the next one, or 0
	closing chan struct{} // ends with close

	mutex   sync.Mutex
	closed  bool
	running *work // that has its turn
}

func newHandle(kind string, pointer uintptr, free func(uintptr)) *handle {
	h := &handle{pointer: pointer, kind: kind, free: free, turn: make(chan struct{}, 1), closing: make(chan struct{})}
	h.users.Store(1)
	return h
}

// use begins a call; the caller ends it with done.
func (h *handle) use() (uintptr, error) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if h.closed {
		return 0, h.closedError()
	}
	h.users.Add(1)
	return h.pointer, nil
}

func (h *handle) done() {
	if h.users.Add(-1) == 0 {
		h.free(h.pointer)
		if h.task != 0 {
			native.Infini_task_free(h.task)
		}
	}
}

// close refuses new calls, stops the one that runs, and lets the owner go.
func (h *handle) close() {
	h.mutex.Lock()
	if h.closed {
		h.mutex.Unlock()
		return
	}
	h.closed = true
	close(h.closing)
	if h.running != nil {
		h.running.stop(os.ErrClosed)
	}
	h.mutex.Unlock()
	h.done()
}

// cancel stops the call that has its turn, if there is one.
func (h *handle) cancel() error {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if h.closed {
		return h.closedError()
	}
	if h.running != nil {
		h.running.stop(nil)
	}
	return nil
}

func (h *handle) closedError() error {
	return &Error{Status: State, Message: fmt.Sprintf("the %s is closed", h.kind), cause: os.ErrClosed}
}

// call runs do with the object.
func (h *handle) call(do func(pointer uintptr) error) error {
	pointer, err := h.use()
	if err != nil {
		return err
	}
	defer h.done()
	return do(pointer)
}

// take waits for the turn of a call; the caller ends it with leave.
func (h *handle) take(ctx context.Context) error {
	select {
	case h.turn <- struct{}{}:
	default:
		select {
		case h.turn <- struct{}{}:
		case <-ctx.Done():
			return cancelledBy(ctx.Err())
		case <-h.closing:
			return h.closedError()
		}
	}
	select {
	case <-h.closing: // as the turn came
		h.leave()
		return h.closedError()
	default:
		return nil
	}
}

func (h *handle) leave() { <-h.turn }

// inTurn runs do with the object when its turn has come, if the object is still open then.
func (h *handle) inTurn(ctx context.Context, do func(pointer uintptr) error) error {
	return h.call(func(pointer uintptr) error {
		if err := h.take(ctx); err != nil {
			return err
		}
		defer h.leave()
		return do(pointer)
	})
}

// work runs a long call in turn, which ctx, cancel and close end.
func (h *handle) work(ctx context.Context, do func(pointer uintptr, w *work) error) error {
	w, err := h.enter(ctx)
	if err != nil {
		return err
	}
	defer h.exit(w)
	return do(h.pointer, w)
}

func (h *handle) enter(ctx context.Context) (*work, error) {
	if _, err := h.use(); err != nil {
		return nil, err
	}
	if err := h.take(ctx); err != nil {
		h.done()
		return nil, err
	}
	w := begin(ctx, h.task)
	h.task = 0
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.running = w
	if h.closed {
		w.stop(os.ErrClosed)
	}
	return w, nil
}

func (h *handle) exit(w *work) {
	h.mutex.Lock()
	h.running = nil
	h.mutex.Unlock()
	h.task = w.leave()
	h.leave()
	h.done()
}

// bytes gets what a call writes whose size is not known before.
func bytes(fill func(buffer []byte, size *uint64) error) ([]byte, error) {
	var buffer []byte
	size, err := uint64(512), error(BufferTooSmall)
	for errors.Is(err, BufferTooSmall) { // more than twice only where another goroutine took what came first
		buffer = make([]byte, size)
		err = fill(buffer, &size)
	}
	if err != nil {
		return nil, err
	}
	return buffer[:size], nil
}

func text(fill func(buffer []byte, size *uint64) error) (string, error) {
	buffer, err := bytes(fill)
	return string(buffer), err
}

// noZero refuses what C would take for shorter than it is.
func noZero(texts ...string) error {
	for _, text := range texts {
		if strings.IndexByte(text, 0) >= 0 {
			return &Error{Status: InvalidArgument, Message: fmt.Sprintf("%q has a zero byte in it", text)}
		}
	}
	return nil
}

// flags are those of infini.h, whose bits 1 and 2 are INFINI_TOKENS_SPECIAL and _START, INFINI_CHAT_FIRST and _REPLY,
// INFINI_SNAPSHOT_MEMORY and _VERIFY.
func flags(first, second bool) int {
	bits := 0
	if first {
		bits |= 1
	}
	if second {
		bits |= 2
	}
	return bits
}
