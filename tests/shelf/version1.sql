-- A shelf as version 1 of its schema had it, with one memory whose snapshot the test adds.
CREATE TABLE memory (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  model TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  model_path TEXT NOT NULL,
  tokens INTEGER NOT NULL,
  created TEXT NOT NULL,
  changed TEXT NOT NULL);
CREATE TABLE state (
  memory_id INTEGER PRIMARY KEY REFERENCES memory ON DELETE CASCADE,
  snapshot BLOB NOT NULL);
CREATE TABLE document (
  id INTEGER PRIMARY KEY,
  memory_id INTEGER NOT NULL REFERENCES memory ON DELETE CASCADE,
  name TEXT NOT NULL,
  size INTEGER NOT NULL,
  tokens INTEGER NOT NULL,
  read TEXT NOT NULL);
CREATE INDEX document_of ON document (memory_id);
INSERT INTO memory VALUES (1, 'old', 'stories260K', '', '', 500, '2025-01-31T12:00:00Z', '2025-02-01T12:00:00Z');
INSERT INTO document VALUES (1, 1, 'novel.txt', 900, 500, '2025-01-31T12:00:00Z');
PRAGMA application_id = 0x53484c46;
PRAGMA user_version = 1;
