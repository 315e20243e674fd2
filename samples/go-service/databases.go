//go:build databases

package main

// The drivers of SQLite and PostgreSQL: go get github.com/lib/pq github.com/mattn/go-sqlite3 && go build -tags databases.

import (
	_ "github.com/lib/pq"
	_ "github.com/mattn/go-sqlite3"
)
