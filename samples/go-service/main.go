// Command go-service serves sessions of one model over HTTP, with net/http. samples/SERVICES.md describes its calls,
// which the services in the other languages have too.
//
//	INFINI_TOKEN=secret go-service MODEL.gguf [ADDRESS]
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"example.org/infini"
)

func main() {
	log.SetFlags(0)
	given, err := readSettings()
	if err != nil {
		log.Fatal(err)
	}
	if len(os.Args) < 2 || len(given.list("INFINI_TOKEN")) == 0 {
		log.Fatal("usage: INFINI_TOKEN=secret go-service MODEL.gguf [ADDRESS]")
	}
	number := func(name string, otherwise int64) int64 {
		value, err := given.number(name, otherwise)
		if err != nil {
			log.Fatal(err)
		}
		return value
	}
	seconds := func(name string, otherwise int64) time.Duration {
		return time.Duration(number(name, otherwise)) * time.Second
	}
	ending, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	model, err := infini.Open(ending, os.Args[1], nil)
	if err != nil {
		log.Fatal(err)
	}
	info, err := model.Info()
	if err != nil {
		log.Fatal(err)
	}
	if !info.TrainedMemory {
		log.Printf("%s has no trained memory: it sees only its window of %d tokens. `infini train %s --adapt` teaches it one.",
			os.Args[1], info.Window, os.Args[1])
	}
	batch, err := model.NewBatch()
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
	s := &service{
		ending: ending, model: model, name: info.Name, sessions: map[string]*client{},
		maxBody: number("INFINI_MAX_BODY", 1<<30), maxSessions: int(number("INFINI_MAX_SESSIONS", 100)),
		maxTokens: number("INFINI_MAX_TOKENS", 4096), maxPrompt: number("INFINI_MAX_PROMPT", 1<<17),
		maxMemories: int(number("INFINI_MAX_MEMORIES", 10000)), maxTime: seconds("INFINI_MAX_SECONDS", 3600),
		patience: seconds("INFINI_BODY_TIMEOUT", 30), origins: given.list("INFINI_CORS"),
		log: &logger{}, metrics: metrics{requests: map[int]int64{}}, writer: &writer{batch: batch},
		working: newTurns(int(number("INFINI_BATCH", 16)), int(number("INFINI_QUEUE", 64))), reading: newTurns(1, -1),
		feeding: newTurns(1, int(number("INFINI_QUEUE", 64))),
	}
	for _, token := range given.list("INFINI_TOKEN") {
		s.tokens = append(s.tokens, []byte("Bearer "+token))
	}
	if path := given["INFINI_PAGE"]; path != "" {
		if s.page, err = os.ReadFile(path); err != nil {
			log.Fatal(err)
		}
	}
	if given["INFINI_LOG"] != "off" {
		s.log.out = os.Stderr
	}
	if named := given.store(os.Args[1]); named != "" {
		if s.store, err = openStore(named); err != nil {
			log.Fatalf("INFINI_STORE cannot be used: %v", err)
		}
	}
	if idle := seconds("INFINI_IDLE_SECONDS", 0); idle > 0 {
		go s.expire(ending, idle)
	}
	go s.metrics.sample(ending)
	most, connections := number("INFINI_MAX_CONNECTIONS", 1000), int64(0)
	server := http.Server{
		Handler:           s,
		ReadHeaderTimeout: seconds("INFINI_HEADER_TIMEOUT", 10),
		IdleTimeout:       s.patience,
		MaxHeaderBytes:    1 << 14,
		ErrorLog:          log.New(io.Discard, "", 0), // what clients do wrong they are told
		BaseContext:       func(net.Listener) context.Context { return ending },
		ConnContext: func(ctx context.Context, connection net.Conn) context.Context {
			return context.WithValue(ctx, connectionKey{}, connection)
		},
		ConnState: func(connection net.Conn, state http.ConnState) { // those beyond the bound are hung up on
			if state == http.StateNew && atomic.AddInt64(&connections, 1) > most {
				_ = connection.Close()
			} else if state == http.StateClosed {
				atomic.AddInt64(&connections, -1)
			}
		},
	}
	fmt.Println("listening on", listener.Addr())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-ending.Done() // which ends the calls, too
		stop()          // a second signal ends at once
		answer := func(within time.Duration) {
			patience, cancel := context.WithTimeout(context.Background(), within)
			defer cancel()
			_ = server.Shutdown(patience)
		}
		answer(3 * time.Second)
		s.keeping.Lock() // what is being written is, however long it takes
		answer(time.Second)
		_ = server.Close()
	}()
	if err := server.Serve(listener); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	<-ended
}
