// Command overhead prints how many tokens a second stories260K generates, as overhead.c does.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"time"

	"example.org/infini"
)

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	ctx := context.Background()
	model := must(infini.Open(ctx, os.Args[1], infini.Options{"compute": "f32", "threads": 1}))
	defer model.Close()
	session := must(model.NewSession(infini.Options{"threads": 1, "temperature": 0, "max_tokens": 200}))
	defer session.Close()
	limit, best := must(strconv.ParseFloat(os.Args[2], 64)), 0.0
	for begin := time.Now(); time.Since(begin).Seconds() < limit; {
		if err := session.Reset(); err != nil {
			log.Fatal(err)
		}
		if err := session.FeedText(ctx, "Once upon a time"); err != nil {
			log.Fatal(err)
		}
		before := must(session.Position())
		round := time.Now()
		for {
			_, err := session.Next(ctx)
			if err == io.EOF {
				break
			}
			if err != nil {
				log.Fatal(err)
			}
		}
		seconds := time.Since(round).Seconds()
		if speed := float64(must(session.Position())-before) / seconds; speed > best {
			best = speed
		}
	}
	fmt.Printf("%.0f\n", best)
}
