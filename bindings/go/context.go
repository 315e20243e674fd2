package infini

import (
	"context"
	"errors"
	"time"

	"example.org/infini/internal/native"
)

// Progress says how far a call has come.
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

// WithProgress returns a context whose long calls (Open, Save, Feed, Score, ...) report how far they have come: hear is
// called every so often, on a goroutine of its own, and never after the call has returned.
func WithProgress(ctx context.Context, every time.Duration, hear func(Progress)) context.Context {
	return context.WithValue(ctx, progressKey{}, progressHook{every, hear})
}

// withTask runs a long call so that ctx cancels it and hears of its progress.
func withTask(ctx context.Context, do func(task uintptr) error) error {
	return withTaskUntil(ctx, nil, do)
}

// withTaskUntil does that; the end of closing, which may be nil, cancels the call too.
func withTaskUntil(ctx context.Context, closing <-chan struct{}, do func(task uintptr) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	hook, watched := ctx.Value(progressKey{}).(progressHook)
	if ctx.Done() == nil && closing == nil && !watched {
		return do(0)
	}
	var task uintptr
	if err := native.Infini_task_new(&task); err != nil {
		return err
	}
	defer native.Infini_task_free(task)
	returned, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		watch(ctx, closing, task, hook, returned)
	}()
	err := do(task)
	close(returned)
	<-gone
	if errors.Is(err, Cancelled) && ctx.Err() != nil {
		err.(*Error).cause = ctx.Err()
	}
	return err
}

func watch(ctx context.Context, closing <-chan struct{}, task uintptr, hook progressHook, returned <-chan struct{}) {
	var tick <-chan time.Time
	if hook.hear != nil && hook.every > 0 {
		ticker := time.NewTicker(hook.every)
		defer ticker.Stop()
		tick = ticker.C
	}
	cancelled := ctx.Done()
	for {
		select {
		case <-returned:
			return
		case <-cancelled:
			_ = native.Infini_task_cancel(task)
			cancelled = nil
		case <-closing:
			_ = native.Infini_task_cancel(task)
			closing = nil
		case <-tick:
			var p Progress
			_ = native.Infini_task_done(task, &p.Done)
			_ = native.Infini_task_total(task, &p.Total)
			p.Stage, _ = text(func(b []byte, n *uint64) error { return native.Infini_task_stage(task, b, n) })
			hook.hear(p)
		}
	}
}
