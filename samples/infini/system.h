// What the commands ask of the operating system: system_posix.cc or system_windows.cc.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

namespace cli {

// --- the console

// Arguments, texts and names of files are UTF-8, and bytes are what they are. Before anything is read or written.
void prepare_console();
bool is_terminal(int file);
int terminal_columns();  // of standard error; 0: not known

// --- interrupts: Ctrl-C, SIGTERM, and SIGHUP, which a terminal sends that is closed

enum class Interrupt { KEY, END, CLOSED };

// Whether an interrupt ends the process. It runs in a signal handler, or in a thread of its own.
using Hear = bool (*)(Interrupt);
void listen(Hear hear);

// Reads what is there, and waits until something is. 0: the end. Throws Cancelled if an interrupt comes first; `path`
// names the file in errors.
size_t read_some(int file, char *data, size_t capacity, const std::string &path);

// --- files: errno says why one is refused

int open_to_read(const std::string &path);       // -1: refused
bool can_write_into(const std::string &folder);  // "": the current one

int64_t resident_bytes();  // of this process, in memory

}  // namespace cli
