package infini

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
)

// handle owns one object of the library. It counts the calls that use it, and its owner as one more: the last to let go
// frees it, so that closing is safe at any time, from any goroutine, any number of times.
type handle struct {
	pointer uintptr
	kind    string
	free    func(uintptr)
	users   atomic.Int64
	closed  atomic.Bool
}

func newHandle(kind string, pointer uintptr, free func(uintptr)) *handle {
	h := &handle{pointer: pointer, kind: kind, free: free}
	h.users.Store(1)
	return h
}

// use begins a call; the caller ends it with done.
func (h *handle) use() (uintptr, error) {
	for {
		users := h.users.Load()
		if users == 0 || h.closed.Load() {
			return 0, h.closedError()
		}
		if h.users.CompareAndSwap(users, users+1) {
			return h.pointer, nil
		}
	}
}

func (h *handle) done() {
	if h.users.Add(-1) == 0 {
		h.free(h.pointer)
	}
}

// close refuses new calls and lets the owner go. Before, where it is the first, it cancels what runs.
func (h *handle) close(cancel func(uintptr) error) {
	if !h.closed.CompareAndSwap(false, true) {
		return
	}
	if cancel != nil {
		_ = cancel(h.pointer)
	}
	h.done()
}

func (h *handle) closedError() error {
	return fmt.Errorf("infini: the %s is closed: %w", h.kind, os.ErrClosed)
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

// callInTurn does that when its turn has come, if the object is still open then.
func (h *handle) callInTurn(turn *sync.Mutex, do func(pointer uintptr) error) error {
	return h.call(func(pointer uintptr) error {
		turn.Lock()
		defer turn.Unlock()
		if h.closed.Load() {
			return h.closedError()
		}
		return do(pointer)
	})
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

func flag(value bool) int {
	if value {
		return 1
	}
	return 0
}
