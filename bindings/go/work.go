package infini

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"example.org/infini/internal/native"
)

// Progress says how far a call has come. Within one call Done never falls.
type Progress struct {
	Stage string // "open", "feed", "train", ...
	Done  int64  // layers, tokens, bytes or steps, as the call's description says
	Total int64  // 0: not known
}

type progressKey struct{}

type progressHook struct {
	every time.Duration
	hear  func(Progress)
}

// WithProgress returns a context whose long calls (Open, Save, Feed, FeedReader, Generate, ...) report how far they have
// come: hear is called every so often and once at the end, on a goroutine of its own, and never after the call has returned.
func WithProgress(ctx context.Context, every time.Duration, hear func(Progress)) context.Context {
	return context.WithValue(ctx, progressKey{}, progressHook{every, hear})
}

// work is one call of this package, which may be several of the library's: what ends it ends all of them, and its
// progress is that of all.
type work struct {
	context context.Context
	mutex   sync.Mutex
	task    uintptr // of the library's calls; 0: none yet
	stopped bool
	cause   error // of that, or nil
	told    Progress
	bytes   *stretch // of a call that counts its own
	gone    chan struct{}
	done    chan struct{}
}

// stretch is where a call is in a text of so many bytes (0: not known): at its piece of size bytes.
type stretch struct{ before, size, total int64 }

// begin begins a call that ctx ends and watches, with a task that another has left, or 0; end or leave must follow.
func begin(ctx context.Context, task uintptr) *work {
	w := &work{context: ctx, task: task}
	hook, _ := ctx.Value(progressKey{}).(progressHook)
	if ctx.Done() != nil || hook.hear != nil {
		w.renew() // who hears of the call does so from its beginning
		w.done, w.gone = make(chan struct{}), make(chan struct{})
		go w.watch(ctx, hook)
	}
	return w
}

func (w *work) end() {
	if w.done != nil {
		close(w.done)
		<-w.gone
	}
	w.renew()
}

// leave ends the call too, and returns its task, if the next one can have it: nobody cancels it or counts what it does.
func (w *work) leave() uintptr {
	if w.done != nil || w.stopped {
		w.end()
	}
	return w.task
}

func (w *work) watch(ctx context.Context, hook progressHook) {
	defer close(w.gone)
	var tick <-chan time.Time
	if hook.hear != nil && hook.every > 0 {
		ticker := time.NewTicker(hook.every)
		defer ticker.Stop()
		tick = ticker.C
	}
	cancelled := ctx.Done()
	for {
		select {
		case <-w.done:
			w.tell(hook)
			return
		case <-cancelled:
			w.stop(ctx.Err())
			cancelled = nil
		case <-tick:
			w.tell(hook)
		}
	}
}

// do makes a call of the library, unless the work was stopped.
func (w *work) do(call func(task uintptr) error) error {
	w.mutex.Lock()
	task, err := w.task, w.unlessStopped()
	if err == nil && task == 0 {
		err = native.Infini_task_create(&task)
		w.task = task
	}
	w.mutex.Unlock()
	if err != nil {
		return err
	}
	err = call(task)
	if failed, ok := err.(*Error); ok && failed.Status == Cancelled {
		w.mutex.Lock()
		failed.cause = w.cause
		w.mutex.Unlock()
	}
	return err
}

// stop ends the work, also before its first call.
func (w *work) stop(cause error) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if w.stopped {
		return
	}
	w.stopped, w.cause = true, cause
	if w.task != 0 {
		_ = native.Infini_task_cancel(w.task)
	}
}

// unlessStopped also looks at the context itself, of which watch hears a little later.
func (w *work) unlessStopped() error {
	if err := w.context.Err(); !w.stopped && err != nil {
		w.stopped, w.cause = true, err
	}
	if !w.stopped {
		return nil
	}
	return cancelledBy(w.cause)
}

func (w *work) err() error {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.unlessStopped()
}

// renew lets go of the task, so that the next call begins with numbers of its own.
func (w *work) renew() {
	if w.task != 0 {
		native.Infini_task_free(w.task)
		w.task = 0
	}
}

// count says that the call counts bytes of a text of so many; 0: not known.
func (w *work) count(total int64) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.bytes = &stretch{total: total}
}

// at says that the next call of the library reads size bytes of the text.
func (w *work) at(size int) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.renew()
	w.bytes.before += w.bytes.size
	w.bytes.size = int64(size)
}

// tell tells the progress, once there is some.
func (w *work) tell(hook progressHook) {
	if hook.hear == nil {
		return
	}
	if p := w.progress(); p.Stage != "" {
		hook.hear(p)
	}
}

func (w *work) progress() Progress {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	var p Progress
	if w.task != 0 {
		var done, total int64
		_ = native.Infini_task_done(w.task, &done)
		_ = native.Infini_task_total(w.task, &total)
		p.Done, p.Total = done, total
		p.Stage, _ = text(func(b []byte, n *uint64) error { return native.Infini_task_stage(w.task, b, n) })
	}
	if s := w.bytes; s != nil {
		done := s.before
		if p.Total > 0 {
			done += int64(float64(s.size) * (float64(p.Done) / float64(p.Total)))
		}
		p = Progress{"feed", done, s.total}
		if s.total > 0 && done > s.total { // there was more than it said
			p.Total = done
		}
	}
	if p.Stage == "idle" { // the library has not begun
		p = w.told
	}
	if p.Stage == w.told.Stage && p.Done < w.told.Done {
		p.Done = w.told.Done
	}
	w.told = p
	return p
}

// failure makes an error of what a reader or writer failed with, perhaps because the work was stopped.
func (w *work) failure(what string, err error) error {
	if stopped := w.err(); stopped != nil {
		return stopped
	}
	return failure(what, err)
}

// sizeOf returns how many bytes r has left, where it knows; else 0.
func sizeOf(r io.Reader) int64 {
	switch known := r.(type) {
	case interface{ Len() int }:
		return int64(known.Len())
	case io.Seeker:
		here, err := known.Seek(0, io.SeekCurrent)
		if err != nil {
			return 0
		}
		end, err := known.Seek(0, io.SeekEnd)
		if _, back := known.Seek(here, io.SeekStart); err != nil || back != nil || end < here {
			return 0
		}
		return end - here
	}
	return 0
}

// piecesOf cuts what r gives into texts that can be fed one by one, and hands each to feed.
func piecesOf(r io.Reader, w *work, feed func(piece []byte) error) error {
	var stream uintptr
	if err := native.Infini_text_stream_create(&stream); err != nil {
		return err
	}
	defer native.Infini_text_stream_free(stream)
	data, piece := make([]byte, 1<<16), make([]byte, 1<<16)
	for empty := 0; ; {
		if err := w.err(); err != nil {
			return err
		}
		n, readError := r.Read(data)
		if empty++; n > 0 {
			empty = 0
		} else if readError == nil && empty == 100 {
			readError = io.ErrNoProgress
		}
		err := native.Infini_text_stream_push(stream, data[:n])
		if err == nil && errors.Is(readError, io.EOF) {
			err = native.Infini_text_stream_finish(stream)
		}
		for err == nil {
			var size uint64
			if err = native.Infini_text_stream_next(stream, piece, &size); err == nil {
				err = feed(piece[:size])
			}
		}
		if err != io.EOF {
			return err
		}
		if errors.Is(readError, io.EOF) {
			return nil
		}
		if readError != nil {
			return w.failure("the text could not be read", readError)
		}
	}
}
