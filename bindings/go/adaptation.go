package infini

import (
	"context"
	"io"
	"runtime"

	"example.org/infini/internal/native"
)

// Adaptation teaches a plain model to use its memory, in phases. It may be used from any goroutine; calls take turns.
type Adaptation struct {
	handle *handle
}

// NewAdaptation makes an adaptation of the plain model in a GGUF file, or goes on with one of which files were kept.
// settingsJSON is an object of the fields that AdaptationSettings lists, of which "texts" must be there. Options: those of
// Open. Progress: stage "open".
//
// Errors: InvalidArgument (the message names the field), ModelMismatch (what was kept was begun otherwise), Format (it is
// damaged), and those of Open.
func NewAdaptation(ctx context.Context, path, settingsJSON string, options Options) (*Adaptation, error) {
	if err := checkABI(); err != nil {
		return nil, err
	}
	if err := noZero(path, settingsJSON); err != nil {
		return nil, err
	}
	var pointer uintptr
	err := options.withTask(ctx, func(o, task uintptr) error {
		return native.Infini_adaptation_create(path, settingsJSON, o, task, &pointer)
	})
	if err != nil {
		return nil, err
	}
	a := &Adaptation{handle: newHandle("adaptation", pointer, native.Infini_adaptation_free)}
	runtime.SetFinalizer(a, func(a *Adaptation) { a.handle.close() })
	return a, nil
}

// AdaptationSettings lists the settings there are: a JSON array of {"name", "type", "default", "least" and "greatest", or
// "choices", "help"}.
func AdaptationSettings() (string, error) { return text(native.Infini_adaptation_settings_json) }

// Close cancels the call that runs, if any, and frees the adaptation when it has returned. Closing again does nothing.
func (a *Adaptation) Close() error {
	a.handle.close()
	return nil
}

// Step does what comes next, a search, a measurement or a training step, and reports whether there was anything left.
//
// Errors: Cancelled (it has not happened, and may be made again), State (gradients are not finite again and again), IO,
// NoSpace, Format.
func (a *Adaptation) Step(ctx context.Context) (more bool, err error) {
	err = a.long(ctx, native.Infini_adaptation_step)
	if err == io.EOF {
		return false, nil
	}
	return err == nil, err
}

// Run does all that is left. Progress: stages "find heads", "evaluate", "feed", "fit heads", "train". Errors: as of Step; the
// steps before are done.
func (a *Adaptation) Run(ctx context.Context) error { return a.long(ctx, native.Infini_adaptation_run) }

// ReportJSON is what the last step did: "phase", and of a training step "step", "loss", ...; "{}" before the first.
func (a *Adaptation) ReportJSON() (string, error) {
	return a.text(native.Infini_adaptation_report_json)
}

// InfoJSON is how far it has come, and what was found and measured: "phases", "complete", "before", "after", ...
func (a *Adaptation) InfoJSON() (string, error) { return a.text(native.Infini_adaptation_info_json) }

// Save saves what it goes on from, in the files of "checkpoint". Progress: stage "save", in bytes of tensors. Errors: IO,
// NoSpace, Cancelled; then the files of before are still there.
func (a *Adaptation) Save(ctx context.Context) error {
	return a.long(ctx, native.Infini_adaptation_save)
}

// Discard removes these files.
func (a *Adaptation) Discard() error { return a.call(native.Infini_adaptation_discard) }

// Write writes the adapted model as a GGUF file. Progress: stage "save", in bytes of tensors. Errors: State (training is not
// over yet), IO, NoSpace, Cancelled.
func (a *Adaptation) Write(ctx context.Context, path string) error {
	if err := noZero(path); err != nil {
		return err
	}
	return a.long(ctx, func(adaptation, task uintptr) error { return native.Infini_adaptation_write(adaptation, path, task) })
}

func (a *Adaptation) call(do func(adaptation uintptr) error) error {
	defer runtime.KeepAlive(a)
	return a.handle.inTurn(background, do)
}

func (a *Adaptation) long(ctx context.Context, do func(adaptation, task uintptr) error) error {
	defer runtime.KeepAlive(a)
	return a.handle.work(ctx, func(adaptation uintptr, w *work) error {
		return w.do(func(task uintptr) error { return do(adaptation, task) })
	})
}

func (a *Adaptation) text(fill func(adaptation uintptr, b []byte, n *uint64) error) (result string, err error) {
	err = a.call(func(adaptation uintptr) (err error) {
		result, err = text(func(b []byte, n *uint64) error { return fill(adaptation, b, n) })
		return err
	})
	return
}
