// The log: a queue that keeps the newest, and a hook that hears each record once.
#include "base/log.h"

#include <atomic>
#include <set>
#include <thread>

#include "support.h"

using namespace infini;

namespace {

struct Heard {
  std::vector<LogRecord> records;
  std::atomic<int> inside{0};
  bool alone = true;
};

void hear(void *user_data, int level, const char *message) {
  Heard &heard = *static_cast<Heard *>(user_data);
  heard.alone &= heard.inside.fetch_add(1) == 0;
  heard.records.push_back({static_cast<LogLevel>(level), message});
  heard.inside.fetch_sub(1);
}

std::vector<LogRecord> take_all() {
  std::vector<LogRecord> records;
  while (auto record = next_log_record()) records.push_back(std::move(*record));
  return records;
}

}  // namespace

TEST_CASE("records are taken in the order in which they came, each with its level") {
  take_all();
  CHECK(!next_log_record());
  log(LogLevel::DEBUG, "one");
  log(LogLevel::WARNING, "two\n\xff");
  log(LogLevel::INFO, "");
  const auto records = take_all();
  REQUIRE(records.size() == 3);
  CHECK(records[0].level == LogLevel::DEBUG);
  CHECK(records[0].message == "one");
  CHECK(records[1].level == LogLevel::WARNING);
  CHECK(records[1].message == "two\n\xff");
  CHECK(records[2].level == LogLevel::INFO);
  CHECK(records[2].message == "");
}

TEST_CASE("of more records than the queue holds the newest stay") {
  take_all();
  for (int i = 0; i < 1000; ++i) log(LogLevel::INFO, std::to_string(i));
  const auto records = take_all();
  REQUIRE(records.size() == 256);
  for (int i = 0; i < 256; ++i) REQUIRE(records[static_cast<size_t>(i)].message == std::to_string(744 + i));
}

TEST_CASE("a hook hears what comes while it is set; the queue holds it too") {
  take_all();
  Heard first, second;
  log(LogLevel::INFO, "before");
  set_log_hook(hear, &first);
  log(LogLevel::WARNING, "first");
  set_log_hook(hear, &second);
  log(LogLevel::DEBUG, "second");
  set_log_hook(nullptr, nullptr);
  log(LogLevel::INFO, "after");
  REQUIRE(first.records.size() == 1);
  CHECK(first.records[0].level == LogLevel::WARNING);
  CHECK(first.records[0].message == "first");
  REQUIRE(second.records.size() == 1);
  CHECK(second.records[0].message == "second");
  CHECK(take_all().size() == 4);
}

TEST_CASE("threads log side by side: the hook is called by one at a time, and no record is lost") {
  take_all();
  constexpr int kThreads = 4, kRecords = 50;  // fewer in all than the queue holds
  Heard heard;
  set_log_hook(hear, &heard);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([t] {
      for (int i = 0; i < kRecords; ++i) log(LogLevel::INFO, std::to_string(t * kRecords + i));
    });
  for (std::thread &thread : threads) thread.join();
  set_log_hook(nullptr, nullptr);
  CHECK(heard.alone);
  for (const auto &records : {heard.records, take_all()}) {
    std::set<std::string> messages;
    std::vector<int> last(kThreads, -1);
    for (const LogRecord &record : records) {
      CHECK(messages.insert(record.message).second);
      const int number = std::stoi(record.message), t = number / kRecords;
      CHECK(number > last[static_cast<size_t>(t)]);  // of one thread in its order
      last[static_cast<size_t>(t)] = number;
    }
    CHECK(messages.size() == kThreads * kRecords);
  }
}
