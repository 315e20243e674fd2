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
	"fmt"
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

	maxNote    = 1 << 10 // bytes
	countAgain = 10 * time.Second
)

var memoryName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$`)

func checkName(name string) error {
	if !memoryName.MatchString(name) {
		return refuse("%q cannot be the name of a memory: 1 to 64 of A-Z a-z 0-9 . _ -, and no dot first", name)
	}
	return nil
}

// newMessages are those behind the ones that were read, which `known` tells: all, where it knows none of them. With them comes what
// is known when they are read: the digest of all messages and, for clients that drop old ones, that of the user's last one. Replies do
// not count: those that the memory gave are its own, whatever the client has kept of them.
func newMessages(messages []json.RawMessage, known string) (fresh []json.RawMessage, digest string) {
	known, knownLast, _ := strings.Cut(known, ":")
	begin, beginLast, last, sum := 0, 0, "", sha256.New()
	for i, message := range messages {
		said, role := map[string]json.RawMessage{}, ""
		_ = json.Unmarshal(message, &said) // the library says what is wrong with it
		_ = json.Unmarshal(said["role"], &role)
		if role != "assistant" {
			content := canonical(said["content"])
			_, _ = io.WriteString(sum, role+"\x00"+content+"\x00")
			digest = hex.EncodeToString(sum.Sum(nil))
			if role == "user" {
				one := sha256.Sum256([]byte(content))
				last = hex.EncodeToString(one[:8])
			}
		}
		if known != "" && digest == known {
			begin = i + 1
		}
		if role == "user" && last == knownLast || role == "assistant" && i > 0 && beginLast == i {
			beginLast = i + 1
		}
	}
	if begin == 0 {
		begin = beginLast
	}
	if begin == len(messages) { // asked once more
		begin--
	}
	return messages[begin:], digest + ":" + last
}

// canonical is the one form of what a message says, which the services in all languages digest, however a client has written
// its JSON.
func canonical(content json.RawMessage) string {
	if len(content) == 0 || string(content) == "null" {
		return "n"
	}
	var text string
	if json.Unmarshal(content, &text) == nil {
		return "s" + text
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	var whole strings.Builder
	writeCanonical(decoder, &whole)
	return "j" + whole.String()
}

func writeCanonical(from *json.Decoder, to *strings.Builder) {
	quote := func(text string) {
		to.WriteByte('"')
		for _, c := range []byte(text) {
			switch {
			case c == '"' || c == '\\':
				to.Write([]byte{'\\', c})
			case c < ' ':
				fmt.Fprintf(to, `\u%04x`, c)
			default:
				to.WriteByte(c)
			}
		}
		to.WriteByte('"')
	}
	token, _ := from.Token() // it is JSON, as readJSON has found
	switch value := token.(type) {
	case json.Delim:
		to.WriteRune(rune(value))
		for between := ""; from.More(); between = "," {
			to.WriteString(between)
			if value == '{' {
				name, _ := from.Token()
				quote(name.(string))
				to.WriteByte(':')
			}
			writeCanonical(from, to)
		}
		end, _ := from.Token()
		fmt.Fprint(to, end)
	case string:
		quote(value)
	case nil:
		to.WriteString("null")
	default:
		fmt.Fprint(to, value)
	}
}

// once has its turn with a session for this request alone, which is found by id.
func (s *service) once(e *exchange, id string, options infini.Options, do func(*client) error) error {
	session, err := s.model.NewSession(options)
	if err != nil {
		return err
	}
	defer session.Close()
	c := newClient(session)
	if err := s.add(id, c); err != nil {
		return err
	}
	defer s.remove(id)
	return c.use(e, func() error { return do(c) })
}

// inTurn has its turn with the memory of that name. create: it may be a new one.
func (s *service) inTurn(e *exchange, name string, create bool, do func(*client) error) error {
	c, err := s.memory(name, create)
	if err != nil {
		return err
	}
	defer s.leave(c)
	return c.use(e, func() error {
		if !create && !c.filled.Load() {
			return errNoMemory
		}
		return do(c)
	})
}

var errNoMemory = &refusal{404, "NOT_FOUND", "there is no memory of that name"}

// memory is the one of that name, which is read from the store when its turn comes; leave gives it back.
func (s *service) memory(name string, create bool) (*client, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if create || s.store == nil {
		if c := s.enter(memoryID+name, false); c != nil {
			return c, nil
		}
	}
	version := ""
	if s.store != nil {
		var err error
		if version, err = s.store.version(name); err != nil {
			return nil, s.storeFailed(err)
		}
	}
	if version == "" && !create {
		return nil, errNoMemory
	}
	for tries := 0; tries < maxTries; tries++ {
		if c, err := s.open(name, version); c != nil || err != nil {
			return c, err
		}
		if !s.mayMakeRoom() {
			break
		}
		time.Sleep(betweenTries)
	}
	return nil, errNoRoom
}

// open makes a memory that is not at hand; nil: there is no room for it now.
func (s *service) open(name, version string) (*client, error) {
	s.opening.Lock() // one at a time; those that are at hand do not wait for it
	defer s.opening.Unlock()
	if c := s.enter(memoryID+name, version != ""); c != nil || !s.hasRoom() {
		return c, nil
	}
	if version == "" {
		if all, err := s.memories(); err != nil {
			return nil, err
		} else if len(all) >= s.maxMemories {
			return nil, &refusal{429, "TOO_MANY_MEMORIES", "the service has as many memories as it may have; delete one"}
		}
	}
	if c := s.enter(memoryID+name, true); c != nil {
		return c, nil
	}
	session, err := s.model.NewSession(infini.Options{"unknown_text": "skip"})
	if err != nil {
		return nil, err
	}
	c := newClient(session)
	c.users = 1
	if s.store != nil {
		c.renew = func() error { return s.renew(name, c) }
	}
	if !s.tryAdd(memoryID+name, c) {
		session.Close()
		return nil, nil
	}
	return c, nil
}

// enter finds a session, for who then leaves it. empty: also a memory that a refused request has left empty.
func (s *service) enter(id string, empty bool) *client {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	c := s.sessions[id]
	if c == nil || !empty && !c.exists(id) {
		return nil
	}
	c.users++
	return c
}

func (s *service) leave(c *client) {
	s.mutex.Lock()
	c.users--
	c.used = time.Now()
	s.mutex.Unlock()
}

// exists reports whether it is more than the memory that a refused request has left empty; the service's mutex is held.
func (c *client) exists(id string) bool {
	return !strings.HasPrefix(id, memoryID) || c.filled.Load() || c.users > 0
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
	beside, version, err := s.store.read(name, c.session)
	if err != nil {
		return s.storeFailed(err)
	}
	if version == "" {
		if err := c.session.Reset(); err != nil {
			return err
		}
	}
	known, note := parts(beside)
	c.setNote(note)
	c.known, c.version = known, version
	c.filled.Store(version != "")
	return nil
}

// storeFailed is what a client is told; faults of snapshots are told by the library.
func (s *service) storeFailed(err error) error {
	var failed *infini.Error
	if errors.As(err, &failed) && failed.Status != infini.IO || errors.Is(err, os.ErrClosed) {
		return err
	}
	s.log.line("error", map[string]any{"message": "the store failed", "error": withoutName(err)})
	return &refusal{503, "STORE_FAILED", "the store of memories failed; the service's log says why"}
}

// withoutName is what an error says, but for the memory's name, which is the user's own words.
func withoutName(err error) string { return snapshotFile.ReplaceAllString(err.Error(), "{}.snapshot") }

var snapshotFile = regexp.MustCompile(`[^/ ]+\.snapshot`)

// keep writes a memory to the store after it was used, whatever the client does meanwhile. Where that fails, the memory is what
// the store has.
func (s *service) keep(name string, c *client) error {
	if s.store == nil {
		c.filled.Store(true)
		return nil
	}
	s.keeping.RLock()
	defer s.keeping.RUnlock()
	replaces := c.version
	c.version = unknown
	version, err := s.store.write(name, c.session, besides(c.known, c.noted()), replaces)
	switch {
	case errors.Is(err, os.ErrClosed): // it was deleted
		return nil
	case err != nil:
		s.log.line("error", map[string]any{"message": "a memory could not be saved", "error": withoutName(err)})
		return &refusal{503, "NOT_KEPT", "the memory could not be kept, and is what its store has"}
	case version == "":
		return &refusal{409, "CONFLICT", "another service wrote the memory meanwhile, and nothing of this request is kept: send it again"}
	}
	c.version = version
	c.filled.Store(true)
	return nil
}

// expire lets memories go that are stored, and closes sessions without a name, that were not used for so long, for as long as the
// service runs.
func (s *service) expire(ctx context.Context, idle time.Duration) {
	for tick := time.NewTicker(idle/4 + time.Millisecond); ctx.Err() == nil; {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
		s.mutex.Lock()
		for s.makeRoom(time.Now().Add(-idle), true) {
		}
		s.mutex.Unlock()
	}
}

// makeRoom lets the one go that was used the longest ago, and before a moment, of those that nobody uses and of which nothing is
// lost; nameless: also of sessions without a name. The mutex is held.
func (s *service) makeRoom(before time.Time, nameless bool) bool {
	oldest := ""
	for id, c := range s.sessions {
		may := nameless
		if strings.HasPrefix(id, memoryID) {
			may = s.store != nil || !c.filled.Load()
		}
		if may && c.users == 0 && len(c.turn) == 0 && c.used.Before(before) &&
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

// mayMakeRoom reports whether there is a memory that may soon leave.
func (s *service) mayMakeRoom() bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for id := range s.sessions {
		if s.store != nil && strings.HasPrefix(id, memoryID) {
			return true
		}
	}
	return false
}

// memories are all, by name.
func (s *service) memories() (map[string]stored, error) {
	all := map[string]stored{}
	if s.store != nil {
		var err error
		if all, err = s.store.list(); err != nil {
			return nil, s.storeFailed(err)
		}
	}
	s.addAtHand(all)
	return all, nil
}

// addAtHand adds those that are not stored yet.
func (s *service) addAtHand(all map[string]stored) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for id, c := range s.sessions {
		if name := strings.TrimPrefix(id, memoryID); name != id && c.exists(id) && all[name].note == nil {
			all[name] = stored{c.bytes.Load(), c.noted}
		}
	}
}

// countMemories says how many there are, or were some seconds ago; -1: the store does not say.
func (s *service) countMemories() int {
	s.counting.Lock()
	defer s.counting.Unlock()
	all := map[string]stored{}
	if s.store != nil {
		if _, err := s.store.version("_"); err != nil {
			return -1
		}
		if time.Since(s.counted) < countAgain {
			return s.count
		}
		var err error
		if all, err = s.store.list(); err != nil {
			return -1
		}
	}
	s.addAtHand(all)
	s.count, s.counted = len(all), time.Now()
	return s.count
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
		memory := map[string]any{"object": "memory", "id": name, "bytes": all[name].bytes, "note": all[name].note(), "tokens": nil}
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
		return errWrongMethod
	}
	if err := e.limit(s.maxBody); err != nil {
		return err
	}
	return s.inTurn(e, name, true, func(c *client) error {
		return s.feed(e, c.session, func() error { return s.keep(name, c) })
	})
}

// mergeMemory adds what another memory holds to one.
func (s *service) mergeMemory(e *exchange, name string) error {
	if e.request.Method != "POST" {
		return errWrongMethod
	}
	if err := e.limit(maxOptions); err != nil {
		return err
	}
	f, other, weight := fields{}, "", 1.0
	if err := f.readFrom(e); err != nil {
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
	var snapshot bytes.Buffer
	copied := func(from *client) error { return from.session.Snapshot(e.context, &snapshot, infini.SaveOptions{}) }
	if err := s.inTurn(e, other, false, copied); err != nil {
		return err
	}
	return s.inTurn(e, name, true, func(c *client) error {
		if err := c.session.MergeFrom(e.context, &snapshot, weight); err != nil {
			return err
		}
		return s.keepAndSay(e, name, c)
	})
}

// noteMemory writes the note of a memory, which lists show.
func (s *service) noteMemory(e *exchange, name string) error {
	if e.request.Method != "PUT" {
		return errWrongMethod
	}
	if err := e.limit(maxOptions); err != nil {
		return err
	}
	f, note := fields{}, ""
	if err := f.readFrom(e); err != nil {
		return err
	}
	if given, err := f.get("note", &note); err != nil || !given || strings.ContainsRune(note, 0) {
		return refuse(`"note" must be a text`)
	} else if len(note) > maxNote {
		return refuse(`"note" may have at most %d bytes`, maxNote)
	}
	return s.inTurn(e, name, false, func(c *client) error {
		c.setNote(note)
		if err := s.keep(name, c); err != nil {
			return err
		}
		return e.answer(200, map[string]any{"note": note})
	})
}

// keepAndSay keeps a memory, and answers where it is.
func (s *service) keepAndSay(e *exchange, name string, c *client) error {
	if err := s.keep(name, c); err != nil {
		return err
	}
	return e.answerPosition(c)
}

// serveMemory gives, takes and deletes a memory, as a snapshot of its session.
func (s *service) serveMemory(e *exchange, name string) error {
	method := e.request.Method
	if method != "GET" && method != "PUT" && method != "DELETE" {
		return errWrongMethod
	}
	limit := int64(maxOptions)
	if method == "PUT" {
		limit = s.maxBody
	}
	if err := e.limit(limit); err != nil {
		return err
	}
	if err := checkName(name); err != nil { // before a body is read
		return err
	}
	switch method {
	case "DELETE":
		return s.forget(e, name)
	case "PUT":
		var snapshot bytes.Buffer
		if _, err := snapshot.ReadFrom(e); err != nil {
			return err
		}
		return s.inTurn(e, name, true, func(c *client) error {
			if err := c.session.RestoreFrom(e.context, &snapshot); err != nil {
				return err
			}
			c.known = ""
			return s.keepAndSay(e, name, c)
		})
	}
	var snapshot bytes.Buffer
	err := s.inTurn(e, name, false, func(c *client) error { return c.session.Snapshot(e.context, &snapshot, infini.SaveOptions{}) })
	if err != nil {
		return err
	}
	return e.answerSnapshot(&snapshot)
}

// forget closes a memory, and deletes it from the store.
func (s *service) forget(e *exchange, name string) error {
	c, err := s.memory(name, false)
	if err != nil {
		return err
	}
	s.remove(memoryID + name)
	s.leave(c)
	c.stop()
	c.session.Close() // nobody saves it any more
	if s.store != nil {
		if err := s.store.delete(name); err != nil {
			return s.storeFailed(err)
		}
	}
	e.WriteHeader(204)
	return nil
}
