package infini

import (
	"context"
	"runtime"
	"sort"

	"example.org/infini/internal/native"
)

// ErrNotInBatch is the error of a call that names a session which is not in the batch.
var ErrNotInBatch error = &Error{Status: InvalidArgument, Message: "the session is not in the batch"}

// Batch is many sessions of one model that advance in one call, so that the model's weights are read once for all of
// them. A session in a batch stays usable by itself. It may be used from any goroutine; calls take turns, with those of
// its sessions too.
type Batch struct {
	handle  *handle
	members *[]*Session // each held open here, in the library's order
}

// NewBatch makes an empty batch.
//
// Errors: State (the model is a tokenizer alone).
func (m *Model) NewBatch() (*Batch, error) {
	var batch uintptr
	if err := m.call(func(model uintptr) error { return native.Infini_batch_create(model, &batch) }); err != nil {
		return nil, err
	}
	members := new([]*Session)
	b := &Batch{members: members, handle: newHandle("batch", batch, func(batch uintptr) {
		native.Infini_batch_free(batch)
		for _, s := range *members {
			s.handle.done()
		}
	})}
	runtime.SetFinalizer(b, func(b *Batch) { b.handle.close() })
	return b, nil
}

// Close cancels the call that runs, if any, and frees the batch, not its sessions. Closing again does nothing. A batch that is not closed is freed some time
// after the last use of it.
func (b *Batch) Close() error {
	b.handle.close()
	return nil
}

// Add adds a session as the last one.
//
// Errors: InvalidArgument (the session belongs to another model, or is in the batch already).
func (b *Batch) Add(s *Session) error {
	return b.call(func(batch uintptr) error {
		session, err := s.handle.use()
		if err != nil {
			return err
		}
		if err = s.handle.take(background); err == nil {
			err = native.Infini_batch_add(batch, session)
			s.handle.leave()
		}
		if err != nil {
			s.handle.done()
			return err
		}
		*b.members = append(*b.members, s)
		return nil
	})
}

// Remove takes a session out, which may be closed.
//
// Errors: ErrNotInBatch.
func (b *Batch) Remove(s *Session) error {
	return b.call(func(batch uintptr) error {
		index, err := b.indexOf(s)
		if err != nil {
			return err
		}
		s.handle.turn <- struct{}{} // of a session that may be closed
		err = native.Infini_batch_remove(batch, s.handle.pointer)
		s.handle.leave()
		if err == nil {
			*b.members = append((*b.members)[:index:index], (*b.members)[index+1:]...)
			s.handle.done()
		}
		return err
	})
}

// Sessions returns the sessions of the batch, in the order in which they were added.
func (b *Batch) Sessions() []*Session {
	b.handle.turn <- struct{}{} // the members stay after Close
	defer b.handle.leave()
	return append([]*Session(nil), *b.members...)
}

// Next gives one token for every session, as Session.NextToken would: in the order of Sessions, -1 for one whose run
// has ended, and whose next run begins with the next call; io.EOF where no session got one.
//
// Errors: State (a session has no logits; nothing was done); Cancelled (nothing was done); one for which errors.Is(err, os.ErrClosed) holds where a
// session of the batch is closed: remove it.
func (b *Batch) Next(ctx context.Context) (tokens []int32, err error) {
	defer runtime.KeepAlive(b)
	err = b.handle.work(ctx, func(batch uintptr, w *work) error {
		tokens = make([]int32, len(*b.members))
		order := append([]*Session(nil), *b.members...) // two batches that share sessions must not wait for each other
		sort.Slice(order, func(i, k int) bool { return order[i].handle.pointer < order[k].handle.pointer })
		for _, s := range order {
			if err := s.handle.take(ctx); err != nil {
				return err
			}
			defer s.handle.leave()
		}
		return w.do(func(task uintptr) error { return native.Infini_batch_next(batch, task, tokens, nil) })
	})
	if err != nil {
		return nil, err
	}
	return tokens, nil
}

// Text returns the text of a session's tokens since it was last asked for: whole characters, stop strings withheld; it
// may be empty.
//
// Errors: ErrNotInBatch.
func (b *Batch) Text(s *Session) (result string, err error) {
	err = b.call(func(batch uintptr) error {
		index, err := b.indexOf(s)
		if err != nil {
			return err
		}
		s.handle.turn <- struct{}{} // of a session that may be closed
		defer s.handle.leave()
		result, err = text(func(buffer []byte, n *uint64) error {
			return native.Infini_batch_text(batch, uint64(index), buffer, n)
		})
		return err
	})
	return
}

func (b *Batch) indexOf(s *Session) (int, error) {
	for i, member := range *b.members {
		if member == s {
			return i, nil
		}
	}
	return -1, ErrNotInBatch
}

// call runs do when its turn has come.
func (b *Batch) call(do func(batch uintptr) error) error {
	defer runtime.KeepAlive(b)
	return b.handle.inTurn(background, do)
}
