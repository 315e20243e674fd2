// Package infini runs and trains Infini-attention language models on ordinary processors: they read a stream of any
// length in fixed memory.
//
//	model, err := infini.Open(ctx, "model.gguf", nil)
//	session, err := model.NewSession(infini.Options{"max_tokens": 100})
//	err = session.FeedText(ctx, "Once upon a time")
//	for {
//		text, err := session.Next(ctx)
//		if err != nil {
//			break // io.EOF: the run ended
//		}
//		fmt.Print(text)
//	}
//
// A Model may be used by any number of goroutines at once. A Session is one stream: it may be called from any
// goroutine, calls take turns, as on a Trainer. Close may be called at any time, also while another goroutine is inside
// a call: that call is cancelled, and what comes after it fails with an error for which errors.Is(err, os.ErrClosed)
// holds.
//
// Every error of the package is an *Error with a Status, a message and what made the call fail; errors.Is(err,
// infini.Cancelled), errors.Is(err, os.ErrNotExist) and the like tell them apart. io.EOF alone is as it is: it says that a
// run of generation, or the log, has ended.
package infini

import (
	"fmt"

	"example.org/infini/internal/native"
)

// Version returns the library's version, "MAJOR.MINOR.PATCH".
func Version() string { return native.Infini_version() }

// LogLevel is the weight of a log record.
type LogLevel int

// The levels of log records.
const (
	LogDebug LogLevel = iota
	LogInfo
	LogWarning
)

// NextLog takes the oldest record out of the library's log, a queue of the newest 256; io.EOF where it is empty. It
// may be called from any goroutine.
func NextLog() (LogLevel, string, error) {
	var level int32
	message, err := text(func(b []byte, n *uint64) error { return native.Infini_log_next(&level, b, n) })
	return LogLevel(level), message, err
}

func checkABI() error {
	want, have := native.Infini_package_abi_version(), native.Infini_abi_version()
	if want != have {
		return &Error{Status: Unsupported, Message: fmt.Sprintf("this module was made for libinfini.so.%d, but libinfini.so.%d "+
			"(version %s) was loaded: install the library and the module of the same version", want, have, Version())}
	}
	return nil
}
