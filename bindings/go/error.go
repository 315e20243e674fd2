package infini

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"example.org/infini/internal/native"
)

// Status says what kind of error a call met. Every Status is an error itself, so that
//
//	errors.Is(err, infini.Cancelled)
//
// holds for every error of this package that has it.
type Status int

// The kinds of errors. The numbers are those of the C interface and never change.
const (
	InvalidArgument Status = 100  // an argument is out of range or not what it should be
	UnknownOption   Status = 101  // no option has that name
	BufferTooSmall  Status = 102  // a buffer is smaller than what it should take
	IO              Status = 200  // a file could not be opened, read, written or replaced
	NoSpace         Status = 201  // the disk or the file-size limit is full
	Format          Status = 300  // a file is damaged or is not what it claims to be
	Truncated       Status = 301  // a file ends before its contents do
	ModelMismatch   Status = 400  // a snapshot belongs to another model
	VersionTooNew   Status = 500  // a file was written by a newer version
	Checksum        Status = 600  // a checksum does not match: the file was changed or damaged
	OutOfMemory     Status = 700  // memory could not be allocated
	Cancelled       Status = 800  // the call was cancelled
	State           Status = 900  // the call does not fit the state of the object
	Unsupported     Status = 1000 // valid, but not something this version can do
	Internal        Status = 1100 // a fault of the library itself; please report it
)

// String returns the status's name: "INVALID_ARGUMENT", "IO", ...; "UNKNOWN" for a number that is no status.
func (s Status) String() string { return native.Infini_status_name(int(s)) }

// Error returns one line that says what the status means.
func (s Status) Error() string { return "infini: " + native.Infini_status_text(int(s)) }

// Error is what a call of this package failed with. errors.Is compares it with a Status, and with what made the call fail:
// the error of a context (context.Canceled, ...), of the system (os.ErrNotExist, os.ErrPermission, syscall.ENOSPC, ...),
// of a reader or writer, or os.ErrClosed. A cancelled call is Cancelled, whatever cancelled it.
type Error struct {
	Status  Status
	Message string // what failed, where, and what to do about it
	cause   error
}

// Error returns the message.
func (e *Error) Error() string { return "infini: " + e.Message }

// Is reports whether target is the error's Status.
func (e *Error) Is(target error) bool {
	status, ok := target.(Status)
	return ok && status == e.Status
}

// Unwrap returns what made the call fail, or nil.
func (e *Error) Unwrap() error { return e.cause }

// cancelledBy is the error of a call that did nothing more.
func cancelledBy(cause error) error {
	message := "the call was cancelled"
	if cause != nil {
		message += ": " + cause.Error()
	}
	return &Error{Status: Cancelled, Message: message, cause: cause}
}

// inPiece says of an error about a piece of a text where in the text it begins.
func inPiece(begin int64, err error) error {
	var refused *Error
	if begin == 0 || !errors.As(err, &refused) || refused.Status != InvalidArgument {
		return err
	}
	message := fmt.Sprintf("in the piece of the text that begins at byte %d: %s", begin, refused.Message)
	return &Error{Status: InvalidArgument, Message: message, cause: refused.cause}
}

// failure is the error of a call that met another's.
func failure(what string, cause error) error {
	status := IO
	var failed *Error
	switch {
	case errors.As(cause, &failed):
		status = failed.Status
	case errors.Is(cause, context.Canceled), errors.Is(cause, context.DeadlineExceeded):
		status = Cancelled
	case errors.Is(cause, syscall.ENOSPC):
		status = NoSpace
	}
	return &Error{Status: status, Message: what + ": " + cause.Error(), cause: cause}
}

func init() {
	native.ErrorOf = func(status, errno int, message string) error {
		err := &Error{Status: Status(status), Message: message}
		if errno != 0 {
			err.cause = syscall.Errno(errno)
		}
		return err
	}
}
