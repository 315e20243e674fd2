// Command go-service serves sessions of one model over HTTP, with net/http. samples/SERVICES.md describes its calls,
// which the services in the other languages have too.
//
//	INFINI_TOKEN=secret go-service MODEL.gguf [ADDRESS]
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"example.org/infini"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 || os.Getenv("INFINI_TOKEN") == "" {
		log.Fatal("usage: INFINI_TOKEN=secret go-service MODEL.gguf [ADDRESS]")
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
	address := "127.0.0.1:8080"
	if len(os.Args) > 2 {
		address = os.Args[2]
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	s := &service{
		model: model, name: info.Name, token: os.Getenv("INFINI_TOKEN"), sessions: map[string]*client{},
		maxBody: number("INFINI_MAX_BODY", 1<<30), maxSessions: int(number("INFINI_MAX_SESSIONS", 100)),
		patience: seconds("INFINI_BODY_TIMEOUT", 30), store: os.Getenv("INFINI_STORE"), maxTokens: number("INFINI_MAX_TOKENS", 4096),
	}
	if s.store != "" {
		if err := os.MkdirAll(s.store, 0o777); err != nil {
			log.Fatal(err)
		}
	}
	server := http.Server{
		Handler:           s,
		ReadHeaderTimeout: seconds("INFINI_HEADER_TIMEOUT", 10),
		IdleTimeout:       s.patience,
		BaseContext:       func(net.Listener) context.Context { return ending },
		ConnContext: func(ctx context.Context, connection net.Conn) context.Context {
			return context.WithValue(ctx, connectionKey{}, connection)
		},
	}
	fmt.Println("listening on", listener.Addr())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-ending.Done() // which ends the calls, too
		stop()          // a second signal ends at once
		patience, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		_ = server.Shutdown(patience)
		_ = server.Close()
	}()
	if err := server.Serve(listener); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	<-ended
}

func number(variable string, otherwise int64) int64 {
	if value, err := strconv.ParseInt(os.Getenv(variable), 10, 64); err == nil {
		return value
	}
	return otherwise
}

func seconds(variable string, otherwise int64) time.Duration {
	return time.Duration(number(variable, otherwise)) * time.Second
}
