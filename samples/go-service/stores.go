package main

// Where memories are kept between the requests that name them.

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"example.org/infini"
)

// store keeps memories. Several services may share one: who writes says which version the writing goes on from, so that nobody's
// words are lost silently. A version is "" where none is kept.
type store interface {
	list() (map[string]stored, error) // the memories that are kept, by name
	version(name string) (string, error)
	// read puts a session where the memory was kept; where none is, the session stays as it was.
	read(name string, session *infini.Session) (beside, version string, err error)
	// write keeps a memory, and a text beside it. It returns the new version; "": another than `replaces` is kept, and nothing was
	// written.
	write(name string, session *infini.Session, beside, replaces string) (version string, err error)
	delete(name string) error
}

// stored is what a list says of a memory.
type stored struct {
	bytes int64         // of its snapshot
	note  func() string // for which a file may have to be read
}

// besides is the text that is kept beside a snapshot: the digest of the messages that the memory has read and, behind a space, its
// note.
func besides(known, note string) string {
	if note == "" {
		return known
	}
	return known + " " + note
}

func parts(beside string) (known, note string) {
	known, note, _ = strings.Cut(beside, " ")
	return
}

// openStore opens the one that INFINI_STORE names.
func openStore(named string) (store, error) {
	kind, path, found := strings.Cut(named, ":")
	switch {
	case found && kind == "sqlite":
		return openDatabase("sqlite3", path)
	case found && (kind == "postgres" || kind == "postgresql"):
		return openDatabase("postgres", named)
	}
	if err := os.MkdirAll(named, 0o777); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(named, ".lock"), os.O_RDWR|os.O_CREATE, 0o666)
	return &folder{path: named, lock: lock}, err
}

// folder keeps each memory as one snapshot that the command `infini` reads too. Its version is what it holds.
type folder struct {
	path  string
	mutex sync.Mutex // of this process, since locks of files are between processes
	lock  *os.File   // that one process at a time has locked
}

func (f *folder) fileOf(name string) string { return filepath.Join(f.path, name+".snapshot") }

// alone does what no other service of the folder may do meanwhile.
func (f *folder) alone(do func() error) error {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	region := syscall.Flock_t{Type: syscall.F_WRLCK, Len: 1}
	for {
		err := syscall.FcntlFlock(f.lock.Fd(), syscall.F_SETLKW, &region)
		if err == nil {
			break
		} else if err != syscall.EINTR {
			return err
		}
	}
	defer func() {
		region.Type = syscall.F_UNLCK
		_ = syscall.FcntlFlock(f.lock.Fd(), syscall.F_SETLK, &region)
	}()
	return do()
}

func (f *folder) list() (map[string]stored, error) {
	files, err := filepath.Glob(filepath.Join(f.path, "*.snapshot"))
	all := map[string]stored{}
	for _, file := range files {
		if facts, err := os.Stat(file); err == nil {
			name := strings.TrimSuffix(filepath.Base(file), ".snapshot")
			all[name] = stored{facts.Size(), func() string {
				info, _ := f.inspect(name) // of a file that is damaged there is no more to say
				_, note := parts(info.Note)
				return note
			}}
		}
	}
	return all, err
}

func (f *folder) inspect(name string) (infini.SnapshotInfo, error) {
	info, err := infini.InspectSnapshot(context.Background(), f.fileOf(name), false)
	if _, gone := os.Stat(f.fileOf(name)); err != nil && os.IsNotExist(gone) {
		return infini.SnapshotInfo{}, nil
	}
	return info, err
}

func (f *folder) version(name string) (string, error) {
	info, err := f.inspect(name)
	return info.JSON, err
}

func (f *folder) read(name string, session *infini.Session) (beside, version string, err error) {
	err = f.alone(func() error {
		info, err := f.inspect(name)
		if err != nil || info.JSON == "" {
			return err
		}
		beside, version = info.Note, info.JSON
		return session.Restore(context.Background(), f.fileOf(name))
	})
	return
}

func (f *folder) write(name string, session *infini.Session, beside, replaces string) (version string, err error) {
	err = f.alone(func() error {
		if kept, err := f.version(name); err != nil || kept != replaces {
			return err
		}
		if err := session.Save(context.Background(), f.fileOf(name), infini.SaveOptions{Name: name, Note: beside}); err != nil {
			return err
		}
		version, err = f.version(name)
		return err
	})
	return
}

func (f *folder) delete(name string) error {
	return f.alone(func() error {
		if err := os.Remove(f.fileOf(name)); !os.IsNotExist(err) {
			return err
		}
		return nil
	})
}

// database keeps memories in a table of SQLite or PostgreSQL, which the services in the other languages read too.
type database struct{ db *sql.DB }

func openDatabase(driver, source string) (store, error) {
	db, err := sql.Open(driver, source)
	if err != nil {
		return nil, fmt.Errorf("this service was built without databases (databases.go says how it is built with them): %w", err)
	}
	create := func() error {
		_, err := db.Exec(`CREATE TABLE IF NOT EXISTS infini_store (
			name TEXT PRIMARY KEY, version TEXT NOT NULL, known TEXT NOT NULL, snapshot BYTEA NOT NULL)`)
		return err
	}
	return &database{db}, again(create) // which fails where another service makes it at the same moment
}

// again does what has no other effect the second time, where the database had hung up.
func again(do func() error) (err error) {
	for tries := 0; tries < 3; tries++ {
		if err = do(); err == nil || errors.Is(err, sql.ErrNoRows) {
			return nil
		}
	}
	return err
}

func (d *database) list() (all map[string]stored, err error) {
	err = again(func() error {
		rows, err := d.db.Query("SELECT name, length(snapshot), known FROM infini_store")
		if err != nil {
			return err
		}
		defer rows.Close()
		all = map[string]stored{}
		for rows.Next() {
			var name, beside string
			var size int64
			if err := rows.Scan(&name, &size, &beside); err != nil {
				return err
			}
			_, note := parts(beside)
			all[name] = stored{size, func() string { return note }}
		}
		return rows.Err()
	})
	return
}

func (d *database) version(name string) (version string, err error) {
	err = again(func() error {
		return d.db.QueryRow("SELECT version FROM infini_store WHERE name = $1", name).Scan(&version)
	})
	return
}

func (d *database) read(name string, session *infini.Session) (beside, version string, err error) {
	var snapshot []byte
	err = again(func() error {
		return d.db.QueryRow("SELECT known, version, snapshot FROM infini_store WHERE name = $1", name).Scan(&beside, &version, &snapshot)
	})
	if err == nil && version != "" {
		err = session.RestoreFrom(context.Background(), bytes.NewReader(snapshot))
	}
	return
}

func (d *database) write(name string, session *infini.Session, beside, replaces string) (version string, err error) {
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", err
	}
	version = hex.EncodeToString(random[:])
	var snapshot bytes.Buffer
	if err := session.Snapshot(context.Background(), &snapshot, infini.SaveOptions{Name: name, Note: beside}); err != nil {
		return "", err
	}
	values := []any{version, beside, snapshot.Bytes(), name}
	statement := "INSERT INTO infini_store (version, known, snapshot, name) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING"
	if replaces != "" {
		statement = "UPDATE infini_store SET version = $1, known = $2, snapshot = $3 WHERE name = $4 AND version = $5"
		values = append(values, replaces)
	}
	if err := again(func() error { _, err := d.db.Exec(statement, values...); return err }); err != nil {
		return "", err
	}
	if kept, err := d.version(name); err != nil || kept != version {
		return "", err
	}
	return version, nil
}

func (d *database) delete(name string) error {
	return again(func() error {
		_, err := d.db.Exec("DELETE FROM infini_store WHERE name = $1", name)
		return err
	})
}
