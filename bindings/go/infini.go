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
// Every error of the library is an *Error with a Status and a message; errors.Is(err, infini.Cancelled) and the like
// tell them apart.
package infini

import (
	"errors"
	"fmt"
	"io"

	"example.org/infini/internal/native"
)

// Version returns the library's version, "MAJOR.MINOR.PATCH".
func Version() string { return native.Infini_version() }

// PaperFootprint returns, as JSON, what each method of long context would hold after so many tokens, for the set-up of
// the Infini-attention paper's comparison.
//
// Errors: InvalidArgument (tokens is negative or too large).
func PaperFootprint(tokens int64) (string, error) {
	return text(func(b []byte, n *uint64) error { return native.Infini_paper_footprint(tokens, b, n) })
}

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
		return fmt.Errorf("infini: this module was made for libinfini.so.%d, but libinfini.so.%d (version %s) was loaded: "+
			"install the library and the module of the same version", want, have, Version())
	}
	return nil
}

// pieces cuts what r gives into texts that can be fed one by one, and hands each to feed.
func pieces(r io.Reader, feed func(piece []byte) error) error {
	var stream uintptr
	if err := native.Infini_text_stream_new(&stream); err != nil {
		return err
	}
	defer native.Infini_text_stream_free(stream)
	data, piece := make([]byte, 1<<16), make([]byte, 1<<16)
	for {
		n, readError := r.Read(data)
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
		if !errors.Is(err, io.EOF) {
			return err
		}
		if errors.Is(readError, io.EOF) {
			return nil
		}
		if readError != nil {
			return readError
		}
	}
}
