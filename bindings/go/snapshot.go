package infini

import (
	"context"
	"io"

	"example.org/infini/internal/native"
)

// SaveOptions say what a snapshot holds. The zero value saves the whole session, so that it goes on exactly as if it had
// never stopped.
type SaveOptions struct {
	MemoryOnly bool   // the memory alone, as it would be after closing the open segment
	Name, Note string // the caller's; InspectSnapshot shows them
}

// Save writes a snapshot to a file, which is replaced whole or not at all. Progress: stage "save", in bytes.
//
// Errors: IO, NoSpace, Cancelled (what was there before is still there), State.
func (s *Session) Save(ctx context.Context, path string, options SaveOptions) error {
	if err := noZero(path, options.Name, options.Note); err != nil {
		return err
	}
	return s.long(ctx, func(session, task uintptr) error {
		return native.Infini_session_save(session, path, flags(options.MemoryOnly, false), options.Name, options.Note, task)
	})
}

// Snapshot writes a snapshot to w, once it is whole. Progress: stage "save", in bytes.
//
// Errors: Cancelled, State, and those of w.
func (s *Session) Snapshot(ctx context.Context, w io.Writer, options SaveOptions) error {
	if err := noZero(options.Name, options.Note); err != nil {
		return err
	}
	var data []byte
	err := s.long(ctx, func(session, task uintptr) (err error) {
		data, err = bytes(func(b []byte, n *uint64) error {
			return native.Infini_session_save_buffer(session, flags(options.MemoryOnly, false), options.Name, options.Note, task, b, n)
		})
		return err
	})
	if err != nil {
		return err
	}
	if _, err = w.Write(data); err != nil {
		return failure("the snapshot could not be written", err)
	}
	return nil
}

// Restore puts the session where the snapshot in a file was taken: all or nothing, so that after an error the session is
// as it was. Options of generation that this session was not given come from the snapshot.
//
// Errors: ModelMismatch, VersionTooNew, Checksum, Format, Truncated, IO, Cancelled.
func (s *Session) Restore(ctx context.Context, path string) error {
	if err := noZero(path); err != nil {
		return err
	}
	return s.long(ctx, func(session, task uintptr) error { return native.Infini_session_restore(session, path, task) })
}

// RestoreFrom does what Restore does with a snapshot that it reads from r, to its end.
//
// Errors: those of r, and those of Restore.
func (s *Session) RestoreFrom(ctx context.Context, r io.Reader) error {
	data, err := readAll(r)
	if err != nil {
		return err
	}
	return s.long(ctx, func(session, task uintptr) error { return native.Infini_session_restore_buffer(session, data, task) })
}

// Merge adds weight times what the snapshot in a file holds, its memory and the sentences that it keeps, to the session, or
// takes it away where weight is below 0. The open segment is closed first; window, position and logits stay, and no rewind
// goes back to before. All or nothing.
//
// Errors: InvalidArgument (the weight, or more would be taken away than the memory holds), and those of Restore.
func (s *Session) Merge(ctx context.Context, path string, weight float64) error {
	if err := noZero(path); err != nil {
		return err
	}
	return s.long(ctx, func(session, task uintptr) error {
		return native.Infini_session_merge(session, path, weight, task)
	})
}

// MergeFrom does what Merge does with a snapshot that it reads from r, to its end.
//
// Errors: those of r, and those of Merge.
func (s *Session) MergeFrom(ctx context.Context, r io.Reader, weight float64) error {
	data, err := readAll(r)
	if err != nil {
		return err
	}
	return s.long(ctx, func(session, task uintptr) error {
		return native.Infini_session_merge_buffer(session, data, weight, task)
	})
}

// InspectSnapshot says what the snapshot in a file holds. No model is needed. verify: the checksum of every part is compared
// too. Progress: stage "inspect", in bytes.
//
// Errors: VersionTooNew, Checksum, Format, Truncated, IO, Cancelled.
func InspectSnapshot(ctx context.Context, path string, verify bool) (info SnapshotInfo, err error) {
	if err = noZero(path); err != nil {
		return
	}
	return inspect(ctx, func(task uintptr, b []byte, n *uint64) error {
		return native.Infini_snapshot_json(path, flags(false, verify), task, b, n)
	})
}

// InspectSnapshotFrom does what InspectSnapshot does with a snapshot that it reads from r, to its end.
//
// Errors: those of r, and those of InspectSnapshot.
func InspectSnapshotFrom(ctx context.Context, r io.Reader, verify bool) (info SnapshotInfo, err error) {
	data, err := readAll(r)
	if err != nil {
		return
	}
	return inspect(ctx, func(task uintptr, b []byte, n *uint64) error {
		return native.Infini_snapshot_json_buffer(data, flags(false, verify), task, b, n)
	})
}

func inspect(ctx context.Context, fill func(task uintptr, b []byte, n *uint64) error) (info SnapshotInfo, err error) {
	w := begin(ctx, 0)
	defer w.end()
	err = w.do(func(task uintptr) (err error) {
		info.JSON, err = text(func(b []byte, n *uint64) error { return fill(task, b, n) })
		return err
	})
	return info, read(info.JSON, err, &info)
}

func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, failure("the snapshot could not be read", err)
	}
	return data, nil
}

// Rewind goes back to an earlier position of the stream, between RewindLimit and the present one. Option "checkpoints"
// says how many segment boundaries are kept for that. A new run of generation begins.
//
// Errors: State (the position is out of reach; nothing has changed).
func (s *Session) Rewind(position int64) error {
	return s.call(func(session uintptr) error { return native.Infini_session_rewind(session, position) })
}

// RewindLimit returns the earliest position that Rewind reaches.
func (s *Session) RewindLimit() (int64, error) { return s.number(native.Infini_session_rewind_limit) }
