package main

// What operators expect: settings, logs, tokens, probes and metrics.

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// settings are those of the environment, and, where that does not name one, of the file INFINI_CONFIG: lines NAME=VALUE.
type settings map[string]string

func readSettings() (settings, error) {
	s := settings{}
	if path := os.Getenv("INFINI_CONFIG"); path != "" {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		lines := bufio.NewScanner(file)
		for number := 1; lines.Scan(); number++ {
			line := strings.TrimSpace(lines.Text())
			if line == "" || line[0] == '#' {
				continue
			}
			name, value, ok := strings.Cut(line, "=")
			if !ok {
				return nil, fmt.Errorf("%s: line %d is not NAME=VALUE", path, number)
			}
			s[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
		if err := lines.Err(); err != nil {
			return nil, err
		}
	}
	for _, pair := range os.Environ() {
		if name, value, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "INFINI_") {
			s[name] = value
		}
	}
	return s, nil
}

// number is a setting that must be at least 0.
func (s settings) number(name string, otherwise int64) (int64, error) {
	text, given := s[name]
	if !given || text == "" {
		return otherwise, nil
	}
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil || value < 0 {
		return 0, fmt.Errorf("%s is %q, but must be a whole number, at least 0", name, text)
	}
	return value, nil
}

// list is a setting of several values with commas between.
func (s settings) list(name string) (values []string) {
	for _, value := range strings.Split(s[name], ",") {
		if value = strings.TrimSpace(value); value != "" {
			values = append(values, value)
		}
	}
	return values
}

// store is the one that INFINI_STORE names, else a folder of the user's for the model's file; "": none.
func (s settings) store(model string) string {
	switch named := s["INFINI_STORE"]; named {
	case "none":
		return ""
	case "":
	default:
		return named
	}
	if folder, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); folder != "" { // of systemd
		return folder
	}
	state := os.Getenv("XDG_STATE_HOME")
	if home := os.Getenv("HOME"); state == "" && home != "" {
		state = filepath.Join(home, ".local", "state")
	}
	if state == "" {
		return ""
	}
	return filepath.Join(state, "infini", strings.TrimSuffix(filepath.Base(model), ".gguf"))
}

// logger writes a line of JSON for each thing that happened, without what users wrote. Its output may be nil: then nothing.
type logger struct {
	mutex sync.Mutex
	out   io.Writer
}

func (l *logger) line(level string, facts map[string]any) {
	if l.out == nil {
		return
	}
	facts["time"], facts["level"] = time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), level
	if text, err := json.Marshal(facts); err == nil {
		l.mutex.Lock()
		defer l.mutex.Unlock()
		_, _ = l.out.Write(append(text, '\n'))
	}
}

// admit lets in who has a token, all of which are compared, each in the same time.
func (s *service) admit(e *exchange) error {
	given := sha256.Sum256([]byte(e.request.Header.Get("Authorization")))
	who := -1
	for i, token := range s.tokens {
		if wanted := sha256.Sum256(token); subtle.ConstantTimeCompare(given[:], wanted[:]) == 1 {
			who = i
		}
	}
	if who < 0 {
		return &refusal{401, "UNAUTHORIZED", "the Authorization header must be: Bearer TOKEN"}
	}
	host, _, _ := net.SplitHostPort(e.request.RemoteAddr)
	e.client = fmt.Sprint(who, " ", host)
	return nil
}

// allowOrigin lets pages of the origins that were named ask. It answers what browsers ask before.
func (s *service) allowOrigin(e *exchange) (answered bool) {
	origin := e.request.Header.Get("Origin")
	for _, allowed := range s.origins {
		if origin == "" || allowed != "*" && allowed != origin {
			continue
		}
		e.Header().Set("Access-Control-Allow-Origin", origin)
		e.Header().Set("Vary", "Origin")
		if e.request.Method != "OPTIONS" {
			return false
		}
		e.Header().Set("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE")
		asked := e.request.Header.Get("Access-Control-Request-Headers")
		if len(asked) > 1<<10 || !headerNames.MatchString(asked) {
			asked = "Authorization, Content-Type, Infini-Memory"
		}
		e.Header().Set("Access-Control-Allow-Headers", asked)
		e.WriteHeader(204)
		return true
	}
	return false
}

var headerNames = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+([ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*$")

// probe answers those who ask whether the service lives, and whether it takes requests.
func (s *service) probe(e *exchange) (answered bool, err error) {
	if e.request.Method != "GET" {
		return false, nil
	}
	switch e.request.URL.Path {
	case "/":
		if s.page == nil {
			return false, nil
		}
		e.Header().Set("Content-Type", "text/html; charset=utf-8")
		e.Header().Set("Content-Security-Policy", pagePolicy)
		_, err := e.Write(s.page)
		return true, err
	case "/healthz":
		return true, e.answer(200, map[string]any{"status": "ok"})
	case "/readyz":
		if s.working.full() || s.feeding.full() {
			return true, &refusal{503, "QUEUE_FULL", "as many requests wait as may"}
		}
		return true, e.answer(200, map[string]any{"status": "ready"})
	}
	return false, nil
}

// retryAfter is when to try again, in seconds: about when who waits now has had its turn.
func (s *service) retryAfter() string {
	_, waiting := s.working.counts()
	_, feeds := s.feeding.counts()
	return strconv.Itoa(1 + waiting/s.working.most + feeds)
}

// pagePolicy lets the page run what is in it, and ask this service alone.
const pagePolicy = "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; frame-ancestors 'none'"

var buckets = []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}

type metrics struct {
	mutex         sync.Mutex
	requests      map[int]int64 // by status
	read, written int64
	first         [11]int64 // of seconds to the first text: how many came in each bucket, and later
	seconds       float64   // their sum
	minute        []totals  // of the last one, the oldest first
}

type totals struct {
	time          time.Time
	read, written int64
}

const sampleEvery = 5 * time.Second

// sample notes the totals now and then, for speeds of the last minute, for as long as the service runs.
func (m *metrics) sample(ctx context.Context) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		m.mutex.Lock()
		if len(m.minute) > int(time.Minute/sampleEvery) {
			m.minute = m.minute[1:]
		}
		m.minute = append(m.minute, totals{time.Now(), m.read, m.written})
		m.mutex.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// firstToken counts how long the first text took.
func (m *metrics) firstToken(e *exchange) {
	if e.spoke {
		return
	}
	e.spoke = true
	seconds := time.Since(e.came).Seconds()
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.first[sort.SearchFloat64s(buckets, seconds)]++
	m.seconds += seconds
}

var named = regexp.MustCompile(`^/(sessions|v1/memories)/[^/]+`)

// account counts and logs a request that has ended.
func (s *service) account(e *exchange) {
	m := &s.metrics
	m.mutex.Lock()
	m.requests[e.status]++
	m.read += e.read
	m.written += e.written
	m.mutex.Unlock()
	path := named.ReplaceAllString(e.request.URL.Path, "/$1/{}")
	if e.status == 404 || e.status == 401 {
		path = "" // which may be anything
	}
	s.log.line("info", map[string]any{"message": "request", "method": e.request.Method, "path": path, "status": e.status,
		"ms": time.Since(e.came).Milliseconds(), "tokens_read": e.read, "tokens_written": e.written})
}

// residentBytes is the process's memory, as Linux tells it; 0: nobody does.
func residentBytes() int64 {
	var all, resident int64
	text, err := os.ReadFile("/proc/self/statm") // in pages
	if err == nil {
		_, err = fmt.Sscan(string(text), &all, &resident)
	}
	if err != nil {
		return 0
	}
	return resident * int64(os.Getpagesize())
}

// writeMetrics answers in Prometheus's text format.
func (s *service) writeMetrics(e *exchange) error {
	var text strings.Builder
	one := func(name, kind, help string, value any) {
		fmt.Fprintf(&text, "# HELP infini_%s %s\n# TYPE infini_%s %s\ninfini_%s %v\n", name, help, name, kind, name, value)
	}
	memories := s.countMemories()
	inside, waiting := s.working.counts()
	reads, feeds := s.feeding.counts()
	sessions, bytes := len(s.list()), int64(0)
	s.mutex.Lock()
	for _, c := range s.sessions {
		bytes += c.bytes.Load()
	}
	s.mutex.Unlock()
	m := &s.metrics
	m.mutex.Lock()
	one("tokens_read_total", "counter", "Tokens of requests that were read.", m.read)
	one("tokens_written_total", "counter", "Tokens that were written.", m.written)
	one("queue_requests", "gauge", "Requests that wait for their turn.", waiting+feeds)
	one("active_requests", "gauge", "Requests that read or write.", inside+reads)
	one("sessions", "gauge", "Sessions in the machine's memory, those of memories among them.", sessions)
	one("session_bytes", "gauge", "Bytes of these sessions.", bytes)
	if memories >= 0 {
		one("memories", "gauge", "Memories, wherever they are.", memories)
	}
	var before totals
	since := 1.0
	if len(m.minute) > 0 {
		before = m.minute[0]
		since = math.Max(1, time.Since(before.time).Seconds())
	}
	one("read_tokens_per_second", "gauge", "Tokens that were read, in the last minute.", math.Round(10*float64(m.read-before.read)/since)/10)
	one("write_tokens_per_second", "gauge", "Tokens that were written, in the last minute.", math.Round(10*float64(m.written-before.written)/since)/10)
	if resident := residentBytes(); resident > 0 {
		fmt.Fprintf(&text, "# HELP process_resident_memory_bytes Memory of the process.\n"+
			"# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes %d\n", resident)
	}
	text.WriteString("# HELP infini_requests_total Requests that have ended, by the status of the answer.\n# TYPE infini_requests_total counter\n")
	statuses := []int{}
	for status := range m.requests {
		statuses = append(statuses, status)
	}
	sort.Ints(statuses)
	for _, status := range statuses {
		fmt.Fprintf(&text, "infini_requests_total{status=\"%d\"} %d\n", status, m.requests[status])
	}
	text.WriteString("# HELP infini_first_token_seconds From the request to its first text.\n# TYPE infini_first_token_seconds histogram\n")
	sum := int64(0)
	for i, count := range m.first {
		sum += count
		bound := "+Inf"
		if i < len(buckets) {
			bound = fmt.Sprint(buckets[i])
		}
		fmt.Fprintf(&text, "infini_first_token_seconds_bucket{le=\"%s\"} %d\n", bound, sum)
	}
	fmt.Fprintf(&text, "infini_first_token_seconds_sum %g\ninfini_first_token_seconds_count %d\n", m.seconds, sum)
	m.mutex.Unlock()
	e.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, err := io.WriteString(e, text.String())
	return err
}
