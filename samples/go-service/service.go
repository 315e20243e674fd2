package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"example.org/infini"
)

const (
	maxOptions  = 1 << 16 // bytes
	maxMessages = 1 << 20
	maxDepth    = 64              // of lists and objects in a body, one within another
	maxPiece    = 256             // tokens of a prompt that are read before others have their turn
	heartbeat   = 5 * time.Second // of events while no text comes

	noOption = "option '%s' is neither a number, nor a text, nor true or false"
)

// The most that a client may ask for.
var bounds = map[string]float64{"threads": float64(runtime.NumCPU()), "chunk": 512, "checkpoints": 16, "compress": 9}

type service struct {
	ending      context.Context // is done when the service ends
	model       *infini.Model
	name        string // the model's
	maxBody     int64  // bytes of a request
	maxSessions int
	patience    time.Duration
	store       store // of memories; nil: they live as long as the service
	maxTokens   int64 // that a request of /v1 may have written
	maxPrompt   int64 // tokens that a request may have read
	maxMemories int
	maxTime     time.Duration // of a request that computes
	tokens      [][]byte      // headers that are let in
	origins     []string      // of pages of others that may ask; "*": all
	page        []byte        // to talk on; nil: there is none
	log         *logger
	metrics     metrics
	working     *turns // requests that compute
	reading     *turns // of those, the one that reads a piece of its prompt, with all processors
	feeding     *turns // feeds that have text; the one that reads a piece of it, beside these
	writer      *writer

	opening  sync.Mutex // of memories
	mutex    sync.Mutex
	sessions map[string]*client
	keeping  sync.RWMutex // is held for reading while a memory is written, and for good at the end
	counting sync.Mutex
	counted  time.Time // when the memories last were
	count    int       // of them, then
}

// client is a session, used by one request at a time.
type client struct {
	session *infini.Session
	turn    chan struct{} // holds one thing while a request uses the session
	renew   func() error  // is done before each use; nil: nothing is
	known   string        // of a memory, for who has the turn: the digest of the messages that it has read
	version string        // of one that is stored, too: what the session goes on from
	filled  atomic.Bool   // of a memory: it holds something that was kept
	bytes   atomic.Int64  // of the session, after its last use: while it is used, asking would wait
	used    time.Time     // when it last was, under the service's mutex
	users   int           // requests that name it, of which one has the turn; under that mutex, too

	mutex  sync.Mutex
	note   string             // of a memory
	cancel context.CancelFunc // of that request; nil: there is none
}

func newClient(session *infini.Session) *client {
	c := &client{session: session, turn: make(chan struct{}, 1), used: time.Now()}
	c.measure()
	return c
}

func (c *client) measure() {
	if info, err := c.session.Info(); err == nil {
		c.bytes.Store(info.SessionBytes)
	}
}

// refusal is an answer other than success.
type refusal struct {
	code    int
	name    string
	message string
}

func (r *refusal) Error() string { return r.message }

var errWrongMethod = &refusal{405, "METHOD_NOT_ALLOWED", "the path has no such method"}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e, end := newExchange(w, r, s.patience)
	defer end()
	defer s.account(e)
	if err := s.serve(e); err != nil {
		refused := s.refusalOf(err)
		if refused.name == "CANCELLED" || refused.code == 504 && e.kept { // or clients would send it again
			e.Header().Set("x-should-retry", "false")
		}
		if refused.code == 429 {
			e.Header().Set("Retry-After", s.retryAfter())
		}
		var body any = map[string]any{"error": refused.name, "message": refused.message}
		if strings.HasPrefix(r.URL.Path, "/v1/") {
			body = openAIError(refused)
		}
		_ = e.answer(refused.code, body)
	}
}

func (s *service) serve(e *exchange) error {
	r := e.request
	if s.ending.Err() != nil {
		return &refusal{503, "ENDING", "the service is about to end; try again"}
	}
	if s.allowOrigin(e) {
		return nil
	}
	if done, err := s.probe(e); done {
		return err
	}
	if err := s.admit(e); err != nil {
		return err
	}
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if path[0] == "v1" && len(path) > 1 {
		return s.serveOpenAI(e, path[1:])
	}
	id, call := "", r.Method+" "+path[0]
	if len(path) > 1 && path[0] == "sessions" {
		id, call = path[1], r.Method+" "+strings.Join(path[2:], "/")
	} else if r.URL.Path == "/" && s.page != nil {
		return errWrongMethod
	} else if len(path) > 1 || !strings.Contains(" sessions model metrics healthz readyz ", " "+path[0]+" ") {
		return &refusal{404, "NOT_FOUND", "there is no such path"}
	}
	limit := s.maxBody
	switch {
	case call == "POST chat" && limit > maxMessages:
		limit = maxMessages
	case call != "POST feed" && call != "PUT snapshot" && call != "POST chat" && limit > maxOptions:
		limit = maxOptions
	}
	if err := e.limit(limit); err != nil {
		return err
	}
	if id != "" {
		c := s.enter(id, false)
		if c == nil {
			return &refusal{404, "NOT_FOUND", "there is no such session"}
		}
		defer s.leave(c)
		return s.serveSession(e, c, id, call)
	}
	switch call {
	case "GET metrics":
		return s.writeMetrics(e)
	case "GET model":
		info, err := s.model.Info()
		if err != nil {
			return err
		}
		return e.answer(200, json.RawMessage(info.JSON))
	case "GET sessions":
		return e.answer(200, s.list())
	case "POST sessions":
		return s.create(e)
	}
	return errWrongMethod
}

// limit bounds the body.
func (e *exchange) limit(bytes int64) error {
	if e.request.ContentLength > bytes {
		return &http.MaxBytesError{Limit: bytes}
	}
	e.request.Body = http.MaxBytesReader(e.ResponseWriter, e.request.Body, bytes)
	return nil
}

func (s *service) serveSession(e *exchange, c *client, id, call string) error {
	if strings.HasPrefix(id, memoryID) && call != "POST cancel" {
		return &refusal{405, "METHOD_NOT_ALLOWED", "of a memory only `cancel` goes by /sessions; all else goes by /v1/memories"}
	}
	switch call {
	case "DELETE ":
		s.remove(id)
		c.stop()
		c.session.Close()
		e.WriteHeader(204)
		return nil
	case "POST cancel":
		c.stop()
		e.WriteHeader(204)
		return nil
	case "POST feed":
		return c.use(e, func() error { return s.feed(e, c.session, func() error { return nil }) })
	case "POST generate":
		if _, err := io.Copy(io.Discard, e); err != nil {
			return err
		}
		return c.use(e, func() error {
			return s.work(e, func() error { return s.generate(e, c.session) })
		})
	case "POST chat":
		messages, err := messagesOf(e)
		if err != nil {
			return err
		}
		return c.use(e, func() error {
			return s.work(e, func() error {
				if err := s.readChat(e, c.session, messages); err != nil {
					return err
				}
				return s.generate(e, c.session)
			})
		})
	case "GET snapshot":
		var snapshot bytes.Buffer
		if err := c.use(e, func() error { return c.session.Snapshot(e.context, &snapshot, infini.SaveOptions{}) }); err != nil {
			return err
		}
		return e.answerSnapshot(&snapshot)
	case "PUT snapshot":
		var snapshot bytes.Buffer
		if _, err := snapshot.ReadFrom(e); err != nil {
			return err
		}
		return c.use(e, func() error {
			if err := c.session.RestoreFrom(e.context, &snapshot); err != nil {
				return err
			}
			return e.answerPosition(c)
		})
	}
	return errWrongMethod
}

// use runs do when the session is free.
func (c *client) use(e *exchange, do func() error) error {
	select {
	case c.turn <- struct{}{}:
	case <-e.context.Done():
		return e.context.Err()
	case <-time.After(time.Second): // a moment: the request before may have answered and not quite ended
		return &refusal{409, "BUSY", "another request uses the session"}
	}
	c.setCancel(e.cancel)
	defer func() {
		c.setCancel(nil)
		c.measure()
		<-c.turn
	}()
	var err error
	if c.renew != nil {
		err = c.renew()
	}
	if err == nil {
		err = do()
	}
	if err != nil && e.context.Err() != nil && errors.Is(err, os.ErrClosed) {
		err = e.context.Err() // it was deleted
	}
	return err
}

func (c *client) setCancel(cancel context.CancelFunc) {
	c.mutex.Lock()
	c.cancel = cancel
	c.mutex.Unlock()
}

// noted is the memory's note.
func (c *client) noted() string {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.note
}

func (c *client) setNote(note string) {
	c.mutex.Lock()
	c.note = note
	c.mutex.Unlock()
}

// stop ends the request that uses the session, if one does.
func (c *client) stop() {
	c.mutex.Lock()
	if c.cancel != nil {
		c.cancel()
	}
	c.mutex.Unlock()
}

// list says where all sessions are, without waiting for those that are busy.
func (s *service) list() []map[string]any {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	listed := []map[string]any{}
	for id, c := range s.sessions {
		if position, err := c.session.Position(); err == nil && c.exists(id) {
			listed = append(listed, map[string]any{"id": id, "position": position, "busy": len(c.turn) > 0})
		}
	}
	return listed
}

// create makes a session with the options of the body, a JSON object such as {"max_tokens": 100}; empty: the defaults.
func (s *service) create(e *exchange) error {
	options, err := optionsOf(e)
	if err != nil {
		return err
	}
	session, err := s.model.NewSession(options)
	if err != nil {
		return err
	}
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		return err
	}
	id := hex.EncodeToString(random[:])
	if err := s.add(id, newClient(session)); err != nil {
		session.Close()
		return err
	}
	return e.answer(201, map[string]any{"id": id})
}

// A second in all: a memory's request may have answered and not quite ended.
const (
	maxTries     = 50
	betweenTries = 20 * time.Millisecond
)

var errNoRoom = &refusal{429, "TOO_MANY_SESSIONS", "the service has as many sessions as it may have; delete one"}

// add takes a session in, where there is room, or a stored memory can make room.
func (s *service) add(id string, c *client) error {
	for tries := 0; tries < maxTries; tries++ {
		if s.tryAdd(id, c) {
			return nil
		}
		if !s.mayMakeRoom() {
			break
		}
		time.Sleep(betweenTries)
	}
	return errNoRoom
}

func (s *service) tryAdd(id string, c *client) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if !s.findRoom() {
		return false
	}
	s.sessions[id] = c
	return true
}

// hasRoom reports whether there is room for a session, which one that may go has made where there was none.
func (s *service) hasRoom() bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.findRoom()
}

// findRoom does, for who holds the mutex.
func (s *service) findRoom() bool {
	return len(s.sessions) < s.maxSessions || s.makeRoom(time.Now(), false)
}

func (s *service) remove(id string) {
	s.mutex.Lock()
	delete(s.sessions, id)
	s.mutex.Unlock()
}

func optionsOf(body io.Reader) (infini.Options, error) {
	options := map[string]any{}
	if err := readJSON(body, &options); err != nil && err != io.EOF {
		return nil, err
	}
	for name, value := range options {
		switch value := value.(type) {
		case string:
		case bool: // of any option, as SERVICES.md has it
			options[name] = 0
			if value {
				options[name] = 1
			}
		case json.Number:
			if most, bounded := bounds[name]; bounded {
				if asked, err := value.Float64(); err == nil && asked > most {
					return nil, refuse("option '%s' may be at most %g here", name, most)
				}
			}
		case []any:
			if name != "stop" {
				return nil, refuse(noOption, name)
			}
			for _, text := range value {
				if _, ok := text.(string); !ok {
					return nil, refuse("option 'stop' takes texts")
				}
			}
		default:
			return nil, refuse(noOption, name)
		}
	}
	if _, given := options["unknown_text"]; !given {
		options["unknown_text"] = "skip"
	}
	return options, nil
}

// messagesOf reads {"messages": [...]}.
func messagesOf(body io.Reader) (string, error) {
	wanted := map[string]json.RawMessage{}
	if err := readJSON(body, &wanted); err != nil && err != io.EOF {
		return "", err
	}
	messages := wanted["messages"]
	if len(wanted) != 1 || len(messages) == 0 || messages[0] != '[' {
		return "", refuse(`the body must be {"messages": [...]}`)
	}
	return string(messages), nil
}

// readJSON reads an object of JSON and nothing behind it; io.EOF where there is nothing at all.
func readJSON[T any](body io.Reader, object *map[string]T) error {
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return io.EOF
	}
	if !utf8.Valid(data) {
		return refuse("the body is not UTF-8")
	}
	var value json.RawMessage
	var wrong *json.SyntaxError
	if err := json.Unmarshal(data, &value); errors.As(err, &wrong) {
		return refuse("the body is not JSON from byte %d on", wrong.Offset)
	}
	decoder := func() *json.Decoder {
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.UseNumber()
		return decoder
	}
	if err := checkNested(decoder(), 1); err != nil {
		return err
	}
	if hasHalfPair(data) {
		return refuse("a text of the body has half of a surrogate pair")
	}
	if err := decoder().Decode(object); err != nil || *object == nil {
		return refuse("the body is not a JSON object")
	}
	return nil
}

// checkNested refuses what JSON allows, but what nobody means: keys that stand twice in an object, and values nested too deep.
func checkNested(decoder *json.Decoder, depth int) error {
	token, err := decoder.Token()
	begin, ok := token.(json.Delim)
	if err != nil || !ok {
		return err
	}
	if depth > maxDepth {
		return refuse("the body is nested deeper than %d", maxDepth)
	}
	names := map[any]bool{}
	for decoder.More() {
		if begin == '{' {
			name, err := decoder.Token()
			if err != nil {
				return err
			}
			if names[name] {
				return refuse("'%v' stands twice in the body", name)
			}
			names[name] = true
		}
		if err := checkNested(decoder, depth+1); err != nil {
			return err
		}
	}
	_, err = decoder.Token() // its end
	return err
}

// hasHalfPair reports whether a text of JSON has half of a surrogate pair, for which encoding/json reads another character.
func hasHalfPair(data []byte) bool {
	unitAt := func(at int) rune { // of an escape \uXXXX; -1: there is none
		if at+6 > len(data) || data[at] != '\\' || data[at+1] != 'u' {
			return -1
		}
		unit, err := strconv.ParseUint(string(data[at+2:at+6]), 16, 16)
		if err != nil {
			return -1
		}
		return rune(unit)
	}
	for at := 0; at < len(data); at++ {
		if unit := unitAt(at); utf16.IsSurrogate(unit) {
			if utf16.DecodeRune(unit, unitAt(at+6)) == utf8.RuneError {
				return true
			}
			at += 11
		} else if data[at] == '\\' {
			at++
		}
	}
	return false
}

// feed reads the body into the session, and keeps that before it answers.
func (s *service) feed(e *exchange, session *infini.Session, keep func() error) error {
	before, err := session.Info()
	if err != nil {
		return err
	}
	text := e.readAhead()
	pieces := &inTurns{text: text, turns: s.feeding, context: text.context, client: e.client}
	if err = pieces.fill(s.feeding.take); err == nil {
		err = session.FeedReader(text.context, pieces)
	}
	pieces.leave()
	position, fault := session.Position()
	if fault == nil {
		e.read += position - before.Position
	}
	var kept error
	if err == nil || position != before.Position {
		kept = keep()
	}
	if err != nil {
		e.cancel()
	}
	fault = text.end()
	if kept != nil {
		return kept
	}
	if fault != nil && (errors.Is(err, infini.Cancelled) || errors.Is(err, context.Canceled) || errors.Is(err, fault)) {
		return fault
	}
	if err != nil {
		return err
	}
	after, err := session.Info()
	if err != nil {
		return err
	}
	return e.answer(200, map[string]any{"position": after.Position, "skipped": after.UnknownBytes - before.UnknownBytes})
}

// work runs what computes when its turn has come, and for so long as a request may take.
func (s *service) work(e *exchange, do func() error) error {
	if err := s.working.take(e.context, e.client); err != nil {
		return err
	}
	defer s.working.leave()
	if s.maxTime > 0 {
		var cancel context.CancelFunc
		e.context, cancel = context.WithTimeout(e.context, s.maxTime)
		defer cancel()
	}
	return do()
}

// readText reads a text.
func (s *service) readText(e *exchange, session *infini.Session, text string) error {
	tokens, err := session.TextTokens(text)
	if err != nil {
		return err
	}
	return s.read(e, session, tokens)
}

// readChat reads messages, and begins the reply.
func (s *service) readChat(e *exchange, session *infini.Session, messages string) error {
	tokens, err := session.ChatTokensJSON(messages)
	if err != nil {
		return err
	}
	if err := s.read(e, session, tokens); err != nil {
		return err
	}
	return session.StartGeneration()
}

// read reads tokens in pieces, between which others have their turn.
func (s *service) read(e *exchange, session *infini.Session, tokens []int32) error {
	if int64(len(tokens)) > s.maxPrompt {
		return &refusal{400, "CONTEXT_LENGTH_EXCEEDED",
			fmt.Sprintf("the request has %d tokens to read, but may have %d", len(tokens), s.maxPrompt)}
	}
	for len(tokens) > 0 {
		piece := tokens
		if len(piece) > maxPiece {
			piece = piece[:maxPiece]
		}
		if err := s.reading.again(e.context, e.client); err != nil {
			return err
		}
		before, _ := session.Position()
		err := session.Feed(e.context, piece)
		after, _ := session.Position()
		s.reading.leave()
		e.read += after - before
		if err != nil {
			return err
		}
		tokens = tokens[len(piece):]
	}
	return nil
}

// generate sends the text of a run as server-sent events.
func (s *service) generate(e *exchange, session *infini.Session) error {
	event := func(name string, data any) error { return e.event("event: "+name, data) }
	reason, err := s.run(e, session, func(text string) error { return event("text", map[string]any{"text": text}) }, true)
	if err != nil && !e.begun {
		return err
	}
	if err != nil {
		refused := s.refusalOf(err)
		_ = event("error", map[string]any{"error": refused.name, "message": refused.message})
		return nil
	}
	_ = event("end", map[string]any{"stop_reason": reason})
	return nil
}

// run lets the model write, piece by piece, and returns why it ended: "cancelled" too, when the client goes away, and "max_time";
// the session may go on. With beats, comments are sent while no text comes, so that a client that went away shows.
func (s *service) run(e *exchange, session *infini.Session, take func(text string) error, beats bool) (reason string, err error) {
	before, _ := session.Position()
	defer func() {
		after, _ := session.Position()
		e.written += after - before
	}()
	run := s.writer.begin(e.context, session)
	for {
		beat, cancel := context.WithTimeout(context.Background(), heartbeat)
		text, err := s.writer.take(beat, run)
		cancel()
		late := errors.Is(e.context.Err(), context.DeadlineExceeded)
		switch {
		case err == io.EOF && run.reason == "cancelled" && late:
			return "max_time", nil
		case err == io.EOF:
			return run.reason, nil
		case err != nil && e.context.Err() != nil:
			return "cancelled", nil // it was deleted
		case err != nil:
			return "", err
		case text != "":
			s.metrics.firstToken(e)
			err = take(text)
		case beats:
			err = e.send(":")
		}
		if err != nil {
			e.cancel() // nobody listens
		}
	}
}

// event sends one of server-sent events, whose head may be empty.
func (e *exchange) event(head string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	return e.send(strings.TrimPrefix(head+"\n", "\n") + "data: " + string(text))
}

func (e *exchange) send(event string) error {
	if !e.begun {
		e.Header().Set("Content-Type", "text/event-stream")
		e.Header().Set("Cache-Control", "no-store")
		e.begun = true
	}
	_, err := io.WriteString(e, event+"\n\n")
	e.Flush()
	return err
}

func (e *exchange) answer(code int, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	e.Header().Set("Content-Type", "application/json")
	e.WriteHeader(code)
	_, _ = e.Write(append(text, '\n')) // who does not listen is not told
	return nil
}

func (e *exchange) answerPosition(c *client) error {
	position, err := c.session.Position()
	if err != nil {
		return err
	}
	return e.answer(200, map[string]any{"position": position})
}

func (e *exchange) answerSnapshot(snapshot *bytes.Buffer) error {
	e.Header().Set("Content-Type", "application/octet-stream")
	_, err := snapshot.WriteTo(e)
	return err
}

func (s *service) refusalOf(err error) *refusal {
	var refused *refusal
	var tooLarge *http.MaxBytesError
	var failed *infini.Error
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.As(err, &tooLarge):
		return &refusal{413, "TOO_LARGE", fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit)}
	case errors.Is(err, context.DeadlineExceeded):
		return &refusal{504, "TIMEOUT", "the request took longer than it may"}
	case errors.Is(err, context.Canceled):
		return &refusal{409, "CANCELLED", "the call was cancelled"}
	case errors.Is(err, os.ErrClosed):
		return &refusal{404, "NOT_FOUND", "there is no such session"}
	case errors.As(err, &failed):
		code := 500
		switch failed.Status {
		case infini.InvalidArgument, infini.UnknownOption, infini.Unsupported:
			code = 400
		case infini.State, infini.Cancelled:
			code = 409
		case infini.ModelMismatch, infini.VersionTooNew, infini.Checksum, infini.Format, infini.Truncated:
			code = 422
		case infini.OutOfMemory:
			code = 503
		}
		return &refusal{code, failed.Status.String(), failed.Message}
	}
	s.log.line("error", map[string]any{"message": "a request failed", "error": err.Error()})
	return &refusal{500, "INTERNAL", "the service failed; its log says why"}
}
