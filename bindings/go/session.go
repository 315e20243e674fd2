package infini

import (
	"context"
	"errors"
	"io"
	"runtime"

	"example.org/infini/internal/native"
)

// Session is one stream through a model: its memory, the open segment, the sampler. It may be used from any goroutine;
// calls take turns.
type Session struct {
	handle            *handle
	buffer            []byte // of Next, used in turn
	vocabulary, width int
}

func newSession(pointer uintptr, vocabulary, width int) *Session {
	s := &Session{
		handle:     newHandle("session", pointer, native.Infini_session_free),
		buffer:     make([]byte, 256),
		vocabulary: vocabulary,
		width:      width,
	}
	runtime.SetFinalizer(s, func(s *Session) { s.handle.close() })
	return s
}

// Close cancels the call that runs, if any, without waiting for it, and frees the session when it has returned. Closing
// again does nothing.
// A session that is not closed is freed some time after the last use of it.
func (s *Session) Close() error {
	s.handle.close()
	return nil
}

// call runs do when its turn has come.
func (s *Session) call(do func(session uintptr) error) error {
	defer runtime.KeepAlive(s)
	return s.handle.inTurn(background, do)
}

// SetOptions changes options of the session: those that are given replace what was. Setting "seed" restarts the random
// generator.
//
// Errors: UnknownOption, InvalidArgument; then nothing has changed.
func (s *Session) SetOptions(options Options) error {
	return s.call(func(session uintptr) error {
		return options.with(func(o uintptr) error { return native.Infini_session_set_options(session, o) })
	})
}

// Feed reads tokens; full segments go to the memory. How a stream is cut into calls does not matter. Progress: stage
// "feed", in tokens.
//
// Errors: InvalidArgument (a token is not in the vocabulary; none was read), Cancelled (the tokens before were read, as
// Position tells, and the session may go on), State.
func (s *Session) Feed(ctx context.Context, tokens []int32) error {
	return s.long(ctx, func(session, task uintptr) error { return native.Infini_session_feed(session, tokens, task) })
}

// FeedText tokenizes a text by itself and reads its tokens. Only at position 0 does it get what begins a text, such as
// BOS. Control tokens are parsed from it only with option "special". What has no token is an error or, by option
// "unknown_text", skipped or replaced. Progress: stage "feed", in tokens.
//
// Errors: InvalidArgument (the text is not UTF-8, or a part of it has no token; nothing was read), State (the model has no
// tokenizer), Cancelled.
func (s *Session) FeedText(ctx context.Context, text string) error {
	return s.feedText(ctx, []byte(text))
}

// TextTokens returns the tokens that FeedText would read here, for who counts them first or reads them in pieces, between which
// others have their turn: all of them by Feed. What has no token and is left out or replaced counts as read.
//
// Errors: InvalidArgument, State, as for FeedText; then nothing has changed.
func (s *Session) TextTokens(text string) (tokens []int32, err error) {
	err = s.call(func(session uintptr) (err error) {
		tokens, err = tokensOf(len(text), func(b []int32, n *uint64) error {
			return native.Infini_session_text_tokens(session, []byte(text), b, n)
		})
		return err
	})
	return
}

// FeedReader reads a UTF-8 text of any length until io.EOF, in pieces of at most 64 KiB, as one call. Progress: stage
// "feed", in bytes; the total is known where r has a method Len or Seek (as a file has). A Read of r that waits is waited
// for, also when ctx ends.
//
// Errors: those of r, and those of FeedText; everything before the piece that failed was read.
func (s *Session) FeedReader(ctx context.Context, r io.Reader) error {
	return s.work(ctx, func(session uintptr, w *work) error {
		w.count(sizeOf(r))
		return piecesOf(r, w, func(piece []byte) error {
			w.at(len(piece))
			err := w.do(func(task uintptr) error { return native.Infini_session_feed_text(session, piece, task) })
			return inPiece(w.bytes.before, err)
		})
	})
}

func (s *Session) feedText(ctx context.Context, text []byte) error {
	return s.long(ctx, func(session, task uintptr) error { return native.Infini_session_feed_text(session, text, task) })
}

// Next generates until at least one whole character is ready and returns that text; io.EOF when the run has ended (end
// token, stop string, or option "max_tokens"), and the call after that begins a new run. Whatever cancels it does so within
// a token, also while no text comes. Progress: stage "generate", in tokens of the run.
//
// Errors: State (nothing was fed yet, or the model has no tokenizer), Cancelled (another call goes on).
func (s *Session) Next(ctx context.Context) (text string, err error) {
	err = s.work(ctx, func(session uintptr, w *work) error {
		text, err = s.next(session, w)
		return err
	})
	return
}

func (s *Session) next(session uintptr, w *work) (text string, err error) {
	err = w.do(func(task uintptr) error {
		var size uint64
		err := native.Infini_session_next_text(session, task, s.buffer, &size)
		if errors.Is(err, BufferTooSmall) {
			s.buffer = make([]byte, size)
			err = native.Infini_session_next_text(session, task, s.buffer, &size)
		}
		if err == nil {
			text = string(s.buffer[:size])
		}
		return err
	})
	return
}

// Generate writes the text of a run to out as it comes, until the run has ended, as one call: out may use the session's
// Position, Cancel and Close, but nothing else of it. Progress: stage "generate", in tokens of the run.
//
// Errors: those of out and those of Next.
func (s *Session) Generate(ctx context.Context, out io.Writer) error {
	return s.work(ctx, func(session uintptr, w *work) error {
		for {
			text, err := s.next(session, w)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if _, err := io.WriteString(out, text); err != nil {
				return w.failure("the text could not be written", err)
			}
		}
	})
}

// NextToken samples a token from the last logits, feeds it and returns it; io.EOF when the run has ended, and the call
// after that begins a new run. An end token is not fed.
//
// Errors: State (nothing was fed yet), Cancelled (another call goes on; a token that was fed meanwhile is returned, else -1).
func (s *Session) NextToken(ctx context.Context) (token int32, err error) {
	token = -1
	err = s.long(ctx, func(session, task uintptr) error { return native.Infini_session_next(session, task, &token) })
	return
}

// StartGeneration begins a new run before the last one has ended: "max_tokens" and stop strings count from here, text
// that was held back is dropped.
func (s *Session) StartGeneration() error { return s.call(native.Infini_session_start_generation) }

// StopReason says why the run has ended: "none" (it has not), "end_token", "stop_string" or "max_tokens".
func (s *Session) StopReason() (string, error) { return s.text(native.Infini_session_stop_reason) }

// Cancel cancels the call of this session that runs: it fails with Cancelled. Where none does, nothing happens; who wants
// to stop a coming call gives it a context. Any goroutine at any time, without waiting for its turn.
func (s *Session) Cancel() error {
	defer runtime.KeepAlive(s)
	return s.handle.cancel()
}

// Logits returns the logits after the last token, before any option of the sampler: Model.Vocabulary numbers.
//
// Errors: State (nothing was fed yet).
func (s *Session) Logits() ([]float32, error) {
	logits := make([]float32, s.vocabulary)
	err := s.call(func(session uintptr) error { return native.Infini_session_logits(session, logits, nil) })
	return valid(logits, err)
}

// Embedding returns the last layer's normed output for the last token: Model.Width numbers.
//
// Errors: State (nothing was fed yet).
func (s *Session) Embedding() ([]float32, error) {
	embedding := make([]float32, s.width)
	err := s.call(func(session uintptr) error { return native.Infini_session_embedding(session, embedding, nil) })
	return valid(embedding, err)
}

// FeedLogits reads tokens as Feed does and returns the logits after each: len(tokens) rows of Model.Vocabulary numbers,
// one after the other.
//
// Errors: those of Feed.
func (s *Session) FeedLogits(ctx context.Context, tokens []int32) ([]float32, error) {
	logits := make([]float32, len(tokens)*s.vocabulary)
	err := s.long(ctx, func(session, task uintptr) error {
		return native.Infini_session_feed_logits(session, tokens, task, logits, nil)
	})
	return valid(logits, err)
}

// Score reads tokens as Feed does and returns for each its negative log-likelihood, in nats. The first is NaN where
// nothing was fed before.
//
// Errors: those of Feed.
func (s *Session) Score(ctx context.Context, tokens []int32) ([]float32, error) {
	nll := make([]float32, len(tokens))
	err := s.long(ctx, func(session, task uintptr) error {
		return native.Infini_session_score(session, tokens, task, nll, nil)
	})
	return valid(nll, err)
}

// ScoreText reads a text as FeedText does and returns the sum of the negative log-likelihoods of its tokens, in nats,
// and how many tokens were scored: all but a first one with nothing before it. Perplexity is exp(nll / scored).
//
// Errors: those of FeedText; where it is Cancelled, both numbers cover what was read.
func (s *Session) ScoreText(ctx context.Context, text string) (nll float64, scored int64, err error) {
	err = s.long(ctx, func(session, task uintptr) error {
		return native.Infini_session_score_text(session, []byte(text), task, &nll, &scored)
	})
	return
}

// CloseSegment folds the open segment into the memory, though it is not full. Costs quality if done often.
func (s *Session) CloseSegment() error { return s.call(native.Infini_session_close_segment) }

// Keep marks the last tokens as worth keeping, where the model keeps sentences (option "keep"): they stay in view before all
// that it would keep by itself, those that are marked last first.
//
// Errors: State (the model keeps none), InvalidArgument (more tokens than the window holds).
func (s *Session) Keep(tokens int64) error {
	return s.call(func(session uintptr) error { return native.Infini_session_keep(session, tokens) })
}

// Reset empties the session: memory, window, logits, text held back. Options and random generator stay.
func (s *Session) Reset() error { return s.call(native.Infini_session_reset) }

// Fork returns a second session that goes on exactly as this one would, at the cost of a copy of its state.
func (s *Session) Fork() (*Session, error) {
	var fork uintptr
	if err := s.call(func(session uintptr) error { return native.Infini_session_fork(session, &fork) }); err != nil {
		return nil, err
	}
	return newSession(fork, s.vocabulary, s.width), nil
}

// Position returns the tokens read since the stream began, generated ones included. It does not wait for its turn: while
// a call reads, it tells how far that has come.
func (s *Session) Position() (position int64, err error) {
	defer runtime.KeepAlive(s)
	err = s.handle.call(func(session uintptr) error { return native.Infini_session_position(session, &position) })
	return
}

// SegmentPosition returns the tokens in the open segment.
func (s *Session) SegmentPosition() (int64, error) {
	return s.number(native.Infini_session_segment_position)
}

// MemoryTokens returns the tokens that were folded into the memory.
func (s *Session) MemoryTokens() (int64, error) { return s.number(native.Infini_session_memory_tokens) }

func (s *Session) long(ctx context.Context, do func(session, task uintptr) error) error {
	return s.work(ctx, func(session uintptr, w *work) error {
		return w.do(func(task uintptr) error { return do(session, task) })
	})
}

func (s *Session) work(ctx context.Context, do func(session uintptr, w *work) error) error {
	defer runtime.KeepAlive(s)
	return s.handle.work(ctx, do)
}

func (s *Session) number(get func(session uintptr, value *int64) error) (value int64, err error) {
	err = s.call(func(session uintptr) error { return get(session, &value) })
	return
}

func (s *Session) text(fill func(session uintptr, b []byte, n *uint64) error) (result string, err error) {
	err = s.call(func(session uintptr) (err error) {
		result, err = text(func(b []byte, n *uint64) error { return fill(session, b, n) })
		return err
	})
	return
}

func valid(numbers []float32, err error) ([]float32, error) {
	if err != nil {
		return nil, err
	}
	return numbers, nil
}
