package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	maxAhead = 8 << 20 // bytes of a text that are read before the model reads them
	maxTurn  = 1 << 12 // bytes of a text that are read in one turn: as many as the library takes for a piece
)

type connectionKey struct{}

// exchange is a request and its answer. Its context ends when the client goes away, when the service ends, and by cancel;
// then neither reading nor writing waits any more. A client that is silent, or does not listen, for too long is given up.
type exchange struct {
	http.ResponseWriter
	request    *http.Request
	context    context.Context
	cancel     context.CancelFunc
	connection net.Conn
	patience   time.Duration
	ended      bool // the body
	begun      bool // the answer, which is a stream

	came          time.Time
	client        string // who asks, for turns
	status        int    // of the answer; 0: none yet
	read, written int64  // tokens
	spoke         bool   // there was text
	kept          bool   // something of the request is in a memory
}

func newExchange(w http.ResponseWriter, r *http.Request, patience time.Duration) (e *exchange, end func()) {
	ctx, cancel := context.WithCancel(r.Context())
	e = &exchange{ResponseWriter: w, request: r, context: ctx, cancel: cancel, connection: r.Context().Value(connectionKey{}).(net.Conn),
		patience: patience, ended: r.Body == http.NoBody, came: time.Now()}
	returned, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		select {
		case <-ctx.Done():
			_ = e.connection.SetReadDeadline(time.Unix(1, 0))
			_ = e.connection.SetWriteDeadline(time.Now().Add(e.patient()))
		case <-returned:
		}
	}()
	return e, func() {
		close(returned)
		<-gone
		cancel()
		_ = e.connection.SetWriteDeadline(time.Time{})
		if !e.ended { // what is left of the body is not worth waiting for
			_ = e.connection.SetReadDeadline(time.Now().Add(time.Second))
		}
	}
}

// patient is how long the client may let us wait.
func (e *exchange) patient() time.Duration {
	if e.context.Err() != nil && e.patience > time.Second {
		return time.Second
	}
	return e.patience
}

// Read reads the body.
func (e *exchange) Read(p []byte) (int, error) {
	deadline := time.Now().Add(e.patience)
	_ = e.connection.SetReadDeadline(deadline)
	if err := e.context.Err(); err != nil { // perhaps before the deadline was set
		return 0, err
	}
	n, err := e.request.Body.Read(p)
	var tooLarge *http.MaxBytesError
	var silent net.Error
	switch {
	case err == nil || errors.As(err, &tooLarge):
	case err == io.EOF:
		e.ended = true
		_ = e.connection.SetReadDeadline(time.Time{}) // the server watches whether the client goes away
	case errors.As(err, &silent) && silent.Timeout() && time.Now().Before(deadline): // it was brought forward
		err = context.Canceled
	case errors.As(err, &silent) && silent.Timeout():
		err = &refusal{408, "TIMEOUT", fmt.Sprintf("no byte of the body came for %g s", e.patience.Seconds())}
	default:
		err = refuse("the body ends early or is badly framed")
	}
	return n, err
}

func (e *exchange) WriteHeader(code int) {
	e.status = code
	e.ResponseWriter.WriteHeader(code)
}

// Write writes the answer: of a large one each piece may take its time.
func (e *exchange) Write(p []byte) (written int, err error) {
	if e.status == 0 {
		e.status = 200
	}
	for err == nil && written < len(p) {
		piece := p[written:]
		if len(piece) > 1<<16 {
			piece = piece[:1<<16]
		}
		_ = e.connection.SetWriteDeadline(time.Now().Add(e.patient()))
		var n int
		n, err = e.ResponseWriter.Write(piece)
		written += n
	}
	return
}

func (e *exchange) Flush() { e.ResponseWriter.(http.Flusher).Flush() }

// ahead reads the body before it is asked for, so that a client that goes away is noticed while the model reads.
type ahead struct {
	context context.Context // ends where the body cannot be read to its end
	pieces  chan []byte
	piece   []byte
	failure error // when pieces has ended; nil: the body is whole
}

func (e *exchange) readAhead() *ahead {
	ctx, fail := context.WithCancel(e.context)
	a := &ahead{context: ctx, pieces: make(chan []byte, maxAhead>>16)}
	go func() {
		defer close(a.pieces)
		for {
			piece := make([]byte, 1<<16)
			n, err := e.Read(piece)
			select {
			case a.pieces <- piece[:n]:
			case <-e.context.Done():
				if err == nil || err == io.EOF {
					err = e.context.Err()
				}
			}
			if err == io.EOF {
				return
			}
			if err != nil {
				a.failure = err
				fail()
				return
			}
		}
	}()
	return a
}

func (a *ahead) Read(p []byte) (int, error) {
	for len(a.piece) == 0 {
		var more bool
		select {
		case a.piece, more = <-a.pieces:
			if !more && a.failure != nil {
				return 0, a.failure
			} else if !more {
				return 0, io.EOF
			}
		case <-a.context.Done():
			return 0, a.context.Err()
		}
	}
	n := copy(p, a.piece)
	a.piece = a.piece[n:]
	return n, nil
}

// end waits until nothing is read any more, and says whether that was for a fault of the body.
func (a *ahead) end() error {
	for range a.pieces {
	}
	if errors.Is(a.failure, context.Canceled) {
		return nil
	}
	return a.failure
}

// inTurns is a text of which the model reads a piece in a turn, which it gives up while it waits for more: who is slow to send
// holds up nobody.
type inTurns struct {
	text    io.Reader
	turns   *turns
	context context.Context
	client  string
	buffer  [maxTurn]byte
	piece   []byte // what is left of it
	end     error  // what comes behind it
	inside  bool
}

// fill waits for a piece, and then for its turn.
func (r *inTurns) fill(take func(context.Context, string) error) error {
	r.leave()
	n, err := r.text.Read(r.buffer[:])
	if err != nil && err != io.EOF {
		return err
	}
	if err := take(r.context, r.client); err != nil {
		return err
	}
	r.inside, r.piece, r.end = true, r.buffer[:n], err
	return nil
}

func (r *inTurns) Read(p []byte) (int, error) {
	if len(r.piece) == 0 && r.end == nil {
		if err := r.fill(r.turns.again); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.piece)
	if r.piece = r.piece[n:]; len(r.piece) > 0 {
		return n, nil
	}
	return n, r.end
}

func (r *inTurns) leave() {
	if r.inside {
		r.inside = false
		r.turns.leave()
	}
}
