// Command go-service serves sessions of one model over HTTP, with net/http. samples/SERVICES.md describes its calls,
// which the services in the other languages have too.
//
//	INFINI_TOKEN=secret go-service MODEL.gguf [ADDRESS]
package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"example.org/infini"
)

const maxOptions = 1 << 16 // bytes

type service struct {
	model       *infini.Model
	token       string
	maxBody     int64 // bytes of a request
	maxSessions int

	mutex    sync.Mutex
	sessions map[string]*client
}

// client is a session, used by one request at a time.
type client struct {
	turn    chan struct{} // holds one thing while a request uses the session
	session *infini.Session
}

// refusal is an answer other than success.
type refusal struct {
	code    int
	name    string
	message string
}

func (r *refusal) Error() string { return r.message }

func main() {
	if len(os.Args) < 2 || os.Getenv("INFINI_TOKEN") == "" {
		log.Fatal("usage: INFINI_TOKEN=secret go-service MODEL.gguf [ADDRESS]")
	}
	model, err := infini.Open(context.Background(), os.Args[1], nil)
	if err != nil {
		log.Fatal(err)
	}
	address := "127.0.0.1:8080"
	if len(os.Args) > 2 {
		address = os.Args[2]
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	server := http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: &service{
		model: model, token: os.Getenv("INFINI_TOKEN"), sessions: map[string]*client{},
		maxBody: number("INFINI_MAX_BODY", 1<<30), maxSessions: int(number("INFINI_MAX_SESSIONS", 100)),
	}}
	log.Fatal(server.Serve(listener))
}

func number(variable string, otherwise int64) int64 {
	if value, err := strconv.ParseInt(os.Getenv(variable), 10, 64); err == nil {
		return value
	}
	return otherwise
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := s.serve(w, r); err != nil {
		refuse(w, err)
	}
}

func (s *service) serve(w http.ResponseWriter, r *http.Request) error {
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+s.token)) != 1 {
		return &refusal{401, "UNAUTHORIZED", "the Authorization header must be: Bearer TOKEN"}
	}
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	creates := r.Method == "POST" && len(path) == 1 && path[0] == "sessions"
	limit := s.maxBody
	if creates && limit > maxOptions {
		limit = maxOptions
	}
	if r.ContentLength > limit {
		return &http.MaxBytesError{Limit: limit}
	}
	r.Body = http.MaxBytesReader(w, r.Body, limit)
	if creates {
		return s.create(w, r)
	}
	if len(path) < 2 || len(path) > 3 || path[0] != "sessions" {
		return &refusal{404, "NOT_FOUND", "there is no such path"}
	}
	s.mutex.Lock()
	c := s.sessions[path[1]]
	s.mutex.Unlock()
	if c == nil {
		return &refusal{404, "NOT_FOUND", "there is no such session"}
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-time.After(time.Second): // a moment: the request before may have answered and not quite ended
		return &refusal{409, "BUSY", "another request uses the session"}
	}
	switch r.Method + " " + strings.Join(path[2:], "") {
	case "DELETE ":
		s.mutex.Lock()
		delete(s.sessions, path[1])
		s.mutex.Unlock()
		c.session.Close()
		w.WriteHeader(204)
		return nil
	case "POST feed":
		if err := c.session.FeedReader(r.Context(), r.Body); err != nil {
			return err
		}
		return position(w, c.session)
	case "POST generate":
		return generate(w, r, c.session)
	case "GET snapshot":
		w.Header().Set("Content-Type", "application/octet-stream")
		return c.session.Snapshot(w, infini.SaveOptions{})
	case "PUT snapshot":
		if err := c.session.RestoreFrom(r.Body); err != nil {
			return err
		}
		return position(w, c.session)
	}
	return &refusal{405, "METHOD_NOT_ALLOWED", "the path has no such method"}
}

// create makes a session with the options of the body, a JSON object such as {"max_tokens": 100}; empty: the defaults.
func (s *service) create(w http.ResponseWriter, r *http.Request) error {
	options := infini.Options{}
	decoder := json.NewDecoder(r.Body)
	decoder.UseNumber()
	if err := decoder.Decode(&options); err != nil && err != io.EOF {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return err
		}
		return &refusal{400, "INVALID_ARGUMENT", "the body is not a JSON object of options: " + err.Error()}
	}
	for name, value := range options {
		if n, ok := value.(json.Number); ok {
			if options[name], ok = toNumber(n); !ok {
				return &refusal{400, "INVALID_ARGUMENT", "option " + name + " is not a number: " + n.String()}
			}
		}
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
	s.mutex.Lock()
	full := len(s.sessions) >= s.maxSessions
	if !full {
		s.sessions[id] = &client{make(chan struct{}, 1), session}
	}
	s.mutex.Unlock()
	if full {
		session.Close()
		return &refusal{429, "TOO_MANY_SESSIONS", "the service has as many sessions as it may have; delete one"}
	}
	return answer(w, 201, map[string]any{"id": id})
}

func toNumber(n json.Number) (any, bool) {
	if i, err := n.Int64(); err == nil {
		return i, true
	}
	f, err := n.Float64()
	return f, err == nil
}

// generate sends the text of a run as server-sent events. It ends when the client goes away, and the session may go on.
func generate(w http.ResponseWriter, r *http.Request, session *infini.Session) error {
	flush, _ := w.(http.Flusher)
	begun := false
	event := func(name string, data any) error {
		if !begun {
			w.Header().Set("Content-Type", "text/event-stream")
			w.Header().Set("Cache-Control", "no-store")
			begun = true
		}
		text, err := json.Marshal(data)
		if err == nil {
			_, err = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, text)
		}
		flush.Flush()
		return err
	}
	for {
		text, err := session.Next(r.Context())
		switch {
		case err == io.EOF:
			reason, _ := session.StopReason()
			return event("end", map[string]any{"stop_reason": reason})
		case r.Context().Err() != nil:
			return nil // nobody listens
		case err != nil && !begun:
			return err
		case err != nil:
			refused := refusalOf(err)
			return event("error", map[string]any{"error": refused.name, "message": refused.message})
		}
		if event("text", map[string]any{"text": text}) != nil {
			return nil
		}
	}
}

func position(w http.ResponseWriter, session *infini.Session) error {
	position, err := session.Position()
	if err != nil {
		return err
	}
	return answer(w, 200, map[string]any{"position": position})
}

func answer(w http.ResponseWriter, code int, body any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	return json.NewEncoder(w).Encode(body)
}

func refusalOf(err error) *refusal {
	var refused *refusal
	var tooLarge *http.MaxBytesError
	var failed *infini.Error
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.As(err, &tooLarge):
		return &refusal{413, "TOO_LARGE", fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit)}
	case errors.Is(err, os.ErrClosed):
		return &refusal{404, "NOT_FOUND", "there is no such session"}
	case errors.As(err, &failed):
		code := 500
		switch failed.Status {
		case infini.InvalidArgument, infini.UnknownOption:
			code = 400
		case infini.State, infini.Cancelled:
			code = 409
		case infini.ModelMismatch, infini.VersionTooNew, infini.Checksum, infini.Format, infini.Truncated:
			code = 422
		}
		return &refusal{code, failed.Status.String(), failed.Message}
	}
	return &refusal{500, "INTERNAL", err.Error()}
}

func refuse(w http.ResponseWriter, err error) {
	r := refusalOf(err)
	_ = answer(w, r.code, map[string]any{"error": r.name, "message": r.message})
}
