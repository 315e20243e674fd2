// A model, one session of it, and the thread that works with them: nothing here waits for the library on the caller's
// thread.
#pragma once

#include "../infini/handles.h"
#include "../infini/notice.h"

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

namespace desktop {

// What the session has come to.
struct Numbers {
  std::int64_t tokens = 0;         // read and written since the stream began
  std::int64_t session_bytes = 0;  // all that the session holds
  std::int64_t cache_bytes = 0;    // what a key-value cache would hold by now
};

struct Event {
  enum Kind {
    OPENED,     // a model; text: its name
    STARTED,    // a job; text: what it does
    READ,       // a part of a text; text: its last words
    TEXT,       // a piece of an answer
    DONE,       // the job; text: what it did, "" where that needs no words
    CANCELLED,  // the job, and those behind it
    FAILED      // the job; text: why
  };
  Kind kind;
  std::string text;
  Numbers numbers;
  bool chats = false;  // the model answers; another one writes on
  std::string notice;  // what there is to say of the model's memory, if there is something
};

// 1234567 as "1,234,567".
std::string count_text(std::int64_t count);

// How far a job has come.
struct Progress {
  double fraction = -1;     // of the whole; negative: not known
  std::int64_t tokens = 0;  // of the session
};

class Reader {
 public:
  // `wake` is called on the reader's thread whenever there is something to take.
  explicit Reader(std::function<void()> wake);
  // Cancels what runs and waits for it.
  ~Reader();
  Reader(const Reader &) = delete;
  Reader &operator=(const Reader &) = delete;

  // Each adds a job; jobs run one after the other.
  void open(std::string path);
  void read_file(std::string path);
  void read_text(std::string text);
  void ask(std::string question);
  void save(std::string path);
  void restore(std::string path);

  // Cancels the job that runs and forgets those that wait. What was read stays read.
  void cancel();

  std::optional<Event> take();
  Progress progress();

 private:
  void add(std::string what, std::function<std::string()> job);
  void work();
  struct Job {
    std::string what;
    std::function<std::string()> run;
    cli::Task task;  // the job's own, so that a cancel ends it, wherever it is, and no other
  };
  void run(const Job &job);
  void post(Event::Kind kind, std::string text);
  infini_session *need_session() const;
  void feed(const std::string &text);
  std::string answer(const std::string &question);
  std::string feed_file(const std::string &path);
  std::int64_t position() const;
  Numbers numbers() const;

  std::function<void()> wake_;

  // Of the reader's thread alone.
  cli::Model model_;
  cli::Session session_;
  bool chats_ = false;  // the model has a chat template
  std::string notice_;  // that it has no memory
  Numbers last_;

  std::mutex mutex_;  // for all below
  std::condition_variable changed_;
  std::deque<Job> jobs_;
  std::deque<Event> events_;
  infini_task *task_ = nullptr;  // of the job that runs, else null
  bool end_ = false;
  std::int64_t tokens_ = 0;           // before the call that runs
  double part_begin_ = 0, part_ = 0;  // what that call reads, as a part of the whole; 0: not known

  std::thread thread_;  // the last member: it uses all others
};

}  // namespace desktop
