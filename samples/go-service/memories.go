package main

// Memories: sessions with a name, which requests of /v1 may use. They are kept in a store after each request, where there is
// one, and then make room for others.

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"regexp"
	"sort"
	"strings"
	"time"

	"example.org/infini"
)

const (
	memoryID = "memory:" // before a memory's name, among the sessions
	unknown  = "?"       // a version that no store has
)

var memoryName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$`)

// newMessages are those behind the ones that were read, of which `known` is the digest: all, where it is not theirs. With them
// comes the digest of all messages. Replies do not count: those that the memory gave are its own, whatever the client has kept
// of them.
func newMessages(messages []json.RawMessage, known string) (fresh []json.RawMessage, digest string) {
	begin := 0
	for i, message := range messages {
		var said struct {
			Role    string          `json:"role"`
			Content json.RawMessage `json:"content"`
		}
		_ = json.Unmarshal(message, &said) // the library says what is wrong with it
		if said.Role != "assistant" {
			sum := sha256.Sum256([]byte(digest + said.Role + "\x00" + string(said.Content)))
			digest = hex.EncodeToString(sum[:])
		}
		if known != "" && digest == known {
			begin = i + 1
		}
	}
	if begin == len(messages) { // asked once more
		begin--
	}
	return messages[begin:], digest
}

// clientFor is the memory of that name, or, where that is empty, a session for this request alone, and its id among the
// sessions. done gives it back.
func (s *service) clientFor(e *exchange, memory, request string, options infini.Options) (c *client, id string, done func(), err error) {
	if memory != "" {
		c, err = s.memory(memory, true)
		return c, memoryID + memory, func() {}, err
	}
	session, err := s.model.NewSession(options)
	if err != nil {
		return nil, "", nil, err
	}
	c = &client{session: session, turn: make(chan struct{}, 1)}
	if err := s.add(request, c); err != nil {
		session.Close()
		return nil, "", nil, err
	}
	return c, request, func() {
		s.remove(request)
		session.Close()
	}, nil
}

// memory is the one of that name, which is read from the store when its turn comes. create: it may be a new one.
func (s *service) memory(name string, create bool) (*client, error) {
	if !memoryName.MatchString(name) {
		return nil, refuse("%q cannot be the name of a memory: 1 to 64 of A-Z a-z 0-9 . _ -, and no dot first", name)
	}
	if c := s.atHand(name); c != nil && (create || s.store == nil) {
		return c, nil
	}
	version := ""
	if s.store != nil {
		var err error
		if version, err = s.store.version(name); err != nil {
			return nil, s.storeFailed(err)
		}
	}
	if version == "" && !create {
		return nil, &refusal{404, "NOT_FOUND", "there is no memory of that name"}
	}
	s.opening.Lock() // one at a time; those that are at hand do not wait for it
	defer s.opening.Unlock()
	if c := s.atHand(name); c != nil {
		return c, nil
	}
	if version == "" && s.countMemories() >= s.maxMemories {
		return nil, &refusal{429, "TOO_MANY_MEMORIES", "the service has as many memories as it may have; delete one"}
	}
	session, err := s.model.NewSession(infini.Options{"unknown_text": "skip"})
	if err != nil {
		return nil, err
	}
	c := &client{session: session, turn: make(chan struct{}, 1), used: time.Now()}
	if s.store != nil {
		c.renew = func() error { return s.renew(name, c) }
	}
	if err := s.add(memoryID+name, c); err != nil {
		session.Close()
		return nil, err
	}
	return c, nil
}

func (s *service) atHand(name string) *client {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	c := s.sessions[memoryID+name]
	if c != nil {
		c.used = time.Now()
	}
	return c
}

// renew puts a memory where the store has it, which another service may have written, or deleted, since.
func (s *service) renew(name string, c *client) error {
	version, err := s.store.version(name)
	if err != nil {
		return s.storeFailed(err)
	}
	if version == c.version {
		return nil
	}
	c.version = unknown
	known, version, err := s.store.read(name, c.session)
	if err != nil {
		return s.storeFailed(err)
	}
	if version == "" {
		if err := c.session.Reset(); err != nil {
			return err
		}
	}
	c.known, c.version = known, version
	return nil
}

// storeFailed is what a client is told; faults of snapshots are told by the library.
func (s *service) storeFailed(err error) error {
	var failed *infini.Error
	if errors.As(err, &failed) || errors.Is(err, os.ErrClosed) {
		return err
	}
	s.log.line("error", map[string]any{"message": "the store failed", "error": err.Error()})
	return &refusal{503, "STORE_FAILED", "the store of memories failed; the service's log says why"}
}

// keep writes a memory to the store after it was used, whatever the client does meanwhile. Where that fails, the memory is what
// the store has. Other sessions are not kept.
func (s *service) keep(id string, c *client) error {
	if s.store == nil || !strings.HasPrefix(id, memoryID) {
		return nil
	}
	name, replaces := strings.TrimPrefix(id, memoryID), c.version
	c.version = unknown
	version, err := s.store.write(name, c.session, c.known, replaces)
	switch {
	case errors.Is(err, os.ErrClosed): // it was deleted
		return nil
	case err != nil:
		s.log.line("error", map[string]any{"message": "a memory could not be saved", "memory": name, "error": err.Error()})
		return &refusal{503, "NOT_KEPT", "the memory could not be kept, and is what its store has"}
	case version == "":
		return &refusal{409, "CONFLICT", "another service wrote the memory meanwhile, and nothing of this request is kept: send it again"}
	}
	c.version = version
	return nil
}

// expire lets memories go that are stored and were not used for so long, for as long as the service runs.
func (s *service) expire(ctx context.Context, idle time.Duration) {
	for tick := time.NewTicker(idle/4 + time.Millisecond); ctx.Err() == nil; {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
		s.mutex.Lock()
		for s.makeRoom(time.Now().Add(-idle)) {
		}
		s.mutex.Unlock()
	}
}

// makeRoom lets the memory go that was used the longest ago, and before a moment, of those that are stored and free; the mutex
// is held.
func (s *service) makeRoom(before time.Time) bool {
	oldest := ""
	for id, c := range s.sessions {
		if s.store != nil && strings.HasPrefix(id, memoryID) && len(c.turn) == 0 && c.used.Before(before) &&
			(oldest == "" || c.used.Before(s.sessions[oldest].used)) {
			oldest = id
		}
	}
	if oldest == "" {
		return false
	}
	c := s.sessions[oldest]
	select {
	case c.turn <- struct{}{}: // for ever
	default:
		return false
	}
	delete(s.sessions, oldest)
	c.session.Close()
	return true
}

func (s *service) anyMemory() bool {
	for id := range s.sessions {
		if strings.HasPrefix(id, memoryID) {
			return true
		}
	}
	return false
}

// memories are all, with the bytes of their snapshots.
func (s *service) memories() (map[string]int64, error) {
	all := map[string]int64{}
	if s.store != nil {
		var err error
		if all, err = s.store.list(); err != nil {
			return nil, s.storeFailed(err)
		}
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for id := range s.sessions {
		if name := strings.TrimPrefix(id, memoryID); name != id {
			all[name] += 0
		}
	}
	return all, nil
}

func (s *service) countMemories() int {
	all, _ := s.memories()
	return len(all)
}

func (s *service) listMemories(e *exchange) error {
	all, err := s.memories()
	if err != nil {
		return err
	}
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	sort.Strings(names)
	data := []any{}
	for _, name := range names {
		memory := map[string]any{"object": "memory", "id": name, "bytes": all[name], "tokens": nil}
		s.mutex.Lock()
		c := s.sessions[memoryID+name]
		s.mutex.Unlock()
		if c != nil {
			if position, err := c.session.Position(); err == nil {
				memory["tokens"] = position
			}
		}
		data = append(data, memory)
	}
	return e.answer(200, map[string]any{"object": "list", "data": data})
}

// feedMemory reads a text of any length into a memory.
func (s *service) feedMemory(e *exchange, name string) error {
	if e.request.Method != "POST" {
		return &refusal{405, "METHOD_NOT_ALLOWED", "the path has no such method"}
	}
	if err := e.limit(s.maxBody); err != nil {
		return err
	}
	c, err := s.memory(name, true)
	if err != nil {
		return err
	}
	return c.use(e, func() error {
		return s.feed(e, c.session, func() error { return s.keep(memoryID+name, c) })
	})
}

// mergeMemory adds what another memory holds to one.
func (s *service) mergeMemory(e *exchange, name string) error {
	if e.request.Method != "POST" {
		return &refusal{405, "METHOD_NOT_ALLOWED", "the path has no such method"}
	}
	if err := e.limit(maxOptions); err != nil {
		return err
	}
	f, other, weight := fields{}, "", 1.0
	if err := readJSON(e, (*map[string]json.RawMessage)(&f)); err != nil && err != io.EOF {
		return err
	}
	if given, err := f.get("memory", &other); err != nil {
		return err
	} else if !given {
		return refuse(`"memory" must name the memory that is added`)
	}
	if _, err := f.get("weight", &weight); err != nil {
		return err
	}
	from, err := s.memory(other, false)
	if err != nil {
		return err
	}
	var snapshot bytes.Buffer
	if err := from.use(e, func() error { return from.session.Snapshot(e.context, &snapshot, infini.SaveOptions{}) }); err != nil {
		return err
	}
	c, err := s.memory(name, true)
	if err != nil {
		return err
	}
	return c.use(e, func() error {
		if err := c.session.MergeFrom(e.context, &snapshot, weight); err != nil {
			return err
		}
		if err := s.keep(memoryID+name, c); err != nil {
			return err
		}
		position, err := c.session.Position()
		if err != nil {
			return err
		}
		return e.answer(200, map[string]any{"position": position})
	})
}

// serveMemory gives, takes and deletes a memory, as a snapshot of its session.
func (s *service) serveMemory(e *exchange, name string) error {
	method := e.request.Method
	if method != "GET" && method != "PUT" && method != "DELETE" {
		return &refusal{405, "METHOD_NOT_ALLOWED", "the path has no such method"}
	}
	limit := int64(maxOptions)
	if method == "PUT" {
		limit = s.maxBody
	}
	if err := e.limit(limit); err != nil {
		return err
	}
	c, err := s.memory(name, method == "PUT")
	if err != nil {
		return err
	}
	switch method {
	case "DELETE":
		s.remove(memoryID + name)
		c.stop()
		c.session.Close() // nobody saves it any more
		if s.store != nil {
			if err := s.store.delete(name); err != nil {
				return s.storeFailed(err)
			}
		}
		e.WriteHeader(204)
		return nil
	case "PUT":
		return s.serveSession(e, c, memoryID+name, "PUT snapshot")
	}
	return s.serveSession(e, c, memoryID+name, "GET snapshot")
}
