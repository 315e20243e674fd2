// infini bench: how fast a model reads and writes, beside what the machine allows.
//
// Reading is bound by matrix products: its ceiling is oneDNN's time for the projections and for the window's Q K^T and
// A V, in the same number type (f32 where oneDNN has no bf16), chunk by chunk. Writing is bound by memory: its ceiling
// is reading the weights, the window's K and V, and M and z once a token, at the bandwidth of a buffer of that size.
// Each run measures the model and both ceilings in turn, so that a noisy machine is noisy for all of them.
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <set>

#include "bench.h"

namespace cli {
namespace {

// oneDNN's products for `count` tokens from position `at` on.
class FeedCeiling {
 public:
  FeedCeiling(const Shape &shape, int64_t at, int64_t count, int64_t chunk) {
    constexpr int64_t kEnoughBytes = 64 << 20;  // of weights in turn: more than a cache holds
    const int64_t layer_bytes = shape.layer_weights() * shape.number_bytes();
    const int copies = static_cast<int>(std::min(shape.layers, 1 + kEnoughBytes / layer_bytes));
    std::map<int64_t, int64_t> chunks;                      // rows of a chunk -> how many
    std::map<std::pair<int64_t, int64_t>, int64_t> pieces;  // (rows in one segment, keys they see) -> how many
    for (int64_t begin = 0; begin < count; begin += chunk) {
      const int64_t end = std::min(begin + chunk, count);
      ++chunks[end - begin];
      for (int64_t i = at + begin; i < at + end;) {
        const int64_t next = std::min(at + end, (i / shape.segment + 1) * shape.segment);
        const int64_t keys = shape.seen_before(i) + i % shape.segment + next - i;
        ++pieces[{next - i, (keys + 63) / 64 * 64}];  // at odd numbers oneDNN is several times slower
        i = next;
      }
    }
    for (const auto &[rows, times] : chunks)
      parts_.push_back({Products(shape.projections(rows), shape.bf16, copies), times * shape.layers, {}});
    const int64_t group = shape.heads / shape.kv_heads;
    for (const auto &[piece, times] : pieces) {
      const auto [rows, keys] = piece;
      const ProductShape scores = {shape.kv_heads, rows * group, shape.key, keys};
      const ProductShape values = {shape.kv_heads, rows * group, keys, shape.value};
      parts_.push_back({Products({scores, values}, shape.bf16, copies), times * shape.layers, {}});
    }
  }
  void run() {
    for (Part &part : parts_) part.products.run(part.rounds.values);
  }
  double least_seconds() const { return sum(&Runs::least); }
  double median_seconds() const { return sum(&Runs::median); }

 private:
  struct Part {
    Products products;
    int64_t times;
    Runs rounds;
  };
  double sum(double (Runs::*of)() const) const {
    double seconds = 0;
    for (const Part &part : parts_) seconds += (part.rounds.*of)() * static_cast<double>(part.times);
    return seconds;
  }
  std::vector<Part> parts_;
};

// Cores that this process may run on; siblings of one count once, as for the library's option "threads".
int physical_cores() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
  std::set<std::string> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    std::string siblings;
    std::ifstream(format("/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu)) >> siblings;
    cores.insert(siblings.empty() ? std::to_string(cpu) : siblings);
  }
  return std::max(1, static_cast<int>(cores.size()));
}

void check_finite(infini_session *session, int64_t vocabulary) {
  std::vector<float> logits(static_cast<size_t>(vocabulary));
  check(infini_session_logits(session, logits.data(), logits.size(), nullptr));
  for (const float logit : logits)
    if (!std::isfinite(logit)) throw std::runtime_error("the model's logits are not finite");
}

// Tokens a second of `count` sessions that write together.
double batch_speed(const infini_model *model, const infini_session *start, int64_t count, int64_t generated) {
  std::vector<Session> sessions;
  const Batch batch = make<Batch>(infini_batch_create, model);
  for (int64_t i = 0; i < count; ++i) {
    sessions.push_back(make<Session>(infini_session_fork, start));
    check(infini_batch_add(batch.get(), sessions.back().get()));
  }
  std::vector<int32_t> tokens(sessions.size());
  check(infini_batch_next(batch.get(), nullptr, tokens.data(), tokens.size(), nullptr));  // makes its buffers
  const Stopwatch watch;
  for (int64_t i = 0; i < generated; ++i)
    check(infini_batch_next(batch.get(), nullptr, tokens.data(), tokens.size(), nullptr));
  return static_cast<double>(count * generated) / watch.seconds();
}

Json measure(const BenchArguments &arguments, const infini_model *model, const infini_session *at_depth,
             const Shape &shape, int64_t depth, Progress &progress) {
  const int64_t chunks = std::max<int64_t>(4, (shape.segment + arguments.chunk - 1) / arguments.chunk);
  const int64_t count = chunks * arguments.chunk;
  FeedCeiling products(shape, depth, count, arguments.chunk);
  const double bytes = shape.bytes_read(depth, arguments.generated);
  const Bytes buffer(static_cast<size_t>(bytes));
  Runs feeds, generates, batches, bandwidths;
  for (int64_t run = 0; run < arguments.runs; ++run) {
    const Session reader = make<Session>(infini_session_fork, at_depth);
    Stopwatch watch;
    feed_random(reader.get(), count, shape.vocabulary, progress);
    feeds.values.push_back(static_cast<double>(count) / watch.seconds());
    products.run();

    const Session writer = make<Session>(infini_session_fork, at_depth);
    feed_random(writer.get(), 1, shape.vocabulary, progress);
    if (arguments.batch > 0)
      batches.values.push_back(batch_speed(model, writer.get(), arguments.batch, arguments.generated));
    watch = Stopwatch();
    for (int64_t i = 0; i < arguments.generated; ++i) check(infini_session_next(writer.get(), nullptr, nullptr));
    generates.values.push_back(static_cast<double>(arguments.generated) / watch.seconds());
    for (int i = 0; i < 10; ++i) bandwidths.values.push_back(read_bandwidth(buffer, arguments.threads));
    check_finite(writer.get(), shape.vocabulary);
    if (interrupted()) throw Cancelled();
  }
  const double tokens = static_cast<double>(count);
  Json row = {
      {"compute", shape.compute},
      {"depth", depth},
      {"feed_tokens_per_second", feeds.greatest()},
      {"feed_ceiling_ratio", feeds.greatest() * products.least_seconds() / tokens},
      {"generate_tokens_per_second", generates.greatest()},
      {"generate_bandwidth_ratio", generates.greatest() * bytes / bandwidths.greatest()},
      {"feed_tokens_per_second_median", feeds.median()},
      {"feed_ceiling_ratio_median", feeds.median() * products.median_seconds() / tokens},
      {"generate_tokens_per_second_median", generates.median()},
      {"generate_bandwidth_ratio_median", generates.median() * bytes / bandwidths.median()},
      {"read_bytes_per_token", bytes},
      {"read_bytes_per_second", bandwidths.greatest()},
  };
  if (arguments.batch > 0) {
    row["batch"] = arguments.batch;
    row["batch_tokens_per_second"] = batches.greatest();
    row["batch_tokens_per_second_median"] = batches.median();
    row["batch_ratio"] = batches.greatest() / generates.greatest();
    row["batch_ratio_median"] = batches.median() / generates.median();
  }
  return row;
}

void print_row(const Json &row) {
  const auto number = [&](const char *key) { return row[key].get<double>(); };
  print(format("%-7s %9s %11.0f %8.0f %6.2f %6.2f %12.1f %8.1f %6.2f %6.2f %7.1f\n",
               row["compute"].get<std::string>().c_str(), grouped(row["depth"]).c_str(),
               number("feed_tokens_per_second"), number("feed_tokens_per_second_median"), number("feed_ceiling_ratio"),
               number("feed_ceiling_ratio_median"), number("generate_tokens_per_second"),
               number("generate_tokens_per_second_median"), number("generate_bandwidth_ratio"),
               number("generate_bandwidth_ratio_median"), number("read_bytes_per_second") / 1e9));
  if (row.contains("batch"))
    print(format("%-7s %3s sessions together write %.1f tok/s (median %.1f): %.2f (%.2f) times one\n", "",
                 grouped(row["batch"]).c_str(), number("batch_tokens_per_second"),
                 number("batch_tokens_per_second_median"), number("batch_ratio"), number("batch_ratio_median")));
}

void bench(BenchArguments arguments, bool memory_given) {
  const Options options = arguments.flags.session_options(), of_model = arguments.flags.model_options();
  arguments.threads = static_cast<int>(value_of<int64_t>(infini_options_get_int, options.get(), "threads"));
  if (arguments.threads == 0) arguments.threads = physical_cores();
  set_product_threads(arguments.threads);  // for the ceilings
  if (arguments.train) return bench_train(arguments, of_model, arguments.flags.trainer_options());
  if (!memory_given) check(infini_options_set_string(of_model.get(), "memory", "open"));
  arguments.chunk = value_of<int64_t>(infini_options_get_int, options.get(), "chunk");
  for (infini_options *set : {options.get(), of_model.get()})
    check(infini_options_set_int(set, "threads", arguments.threads));
  check(infini_options_set_int(options.get(), "ignore_end", 1));
  check(infini_options_set_int(options.get(), "max_tokens", INT32_MAX));
  std::vector<int64_t> depths = parse_numbers(arguments.depths, "--depth");
  std::sort(depths.begin(), depths.end());
  if (depths.empty() || depths.front() < 0) throw std::runtime_error("--depth takes numbers of tokens: 0,4096");
  if (arguments.snapshot) return bench_snapshot(arguments, of_model, options, depths);
  const std::string asked = all_of(infini_options_get_string, of_model.get(), "compute");

  Json results = Json::array();
  if (!arguments.json)
    print(format("%-7s %9s %11s %8s %6s %6s %12s %8s %6s %6s %7s\n", "compute", "depth", "feed tok/s", "median",
                 "ratio", "median", "gener. tok/s", "median", "ratio", "median", "GB/s"));
  for (const std::string compute : {"f32", "bf16", "int8"}) {
    if (asked != "auto" && asked != compute) continue;
    check(infini_options_set_string(of_model.get(), "compute", compute.c_str()));
    const Model model = open_model(arguments.model, of_model, "opening in " + compute);
    const Json info = model_info(model.get());
    if (info["compute"] != compute) continue;  // opening it has said why
    const Shape shape(info);
    const Session session = make<Session>(infini_session_create, model.get(), options.get());
    Progress progress(compute);
    int64_t at = 0;
    for (const int64_t depth : depths) {
      feed_random(session.get(), depth - at, shape.vocabulary, progress);
      at = depth;
      const Json row = measure(arguments, model.get(), session.get(), shape, depth, progress);
      progress.clear();
      if (arguments.json) results.push_back(row);
      else print_row(row);
    }
  }
  if (arguments.json) print_json({{"results", results}, {"threads", arguments.threads}, {"chunk", arguments.chunk}});
}

}  // namespace

void add_bench(CLI::App &app) {
  const auto arguments = std::make_shared<BenchArguments>();
  CLI::App *command = app.add_subcommand("bench", "Measures reading and writing beside what the machine allows");
  arguments->add(*command);
  const CLI::Option *depth =
      command->add_option("--depth", arguments->depths, "tokens that were read before: 0,4096,...")
          ->capture_default_str();
  add_count(*command, "--runs", arguments->runs, "runs of each measure");
  add_count(*command, "--generate", arguments->generated, "tokens that a run generates");
  command->add_option("--batch", arguments->batch, "also measures so many sessions that write together, beside one")
      ->check(CLI::Range(1, 1024));
  command->add_flag("--snapshot", arguments->snapshot,
                    "saving and restoring instead, beside a plain write and read of the same bytes");
  command->add_option("--folder", arguments->folder, "where --snapshot writes its files")
      ->type_name("FILE")
      ->capture_default_str();
  command->get_option("MODEL")->required(false);  // --train has one of its own
  command->add_flag("--train", arguments->train, "measures training instead, on random tokens");
  command->add_option("--optimizer", arguments->training.optimizer, "of --train")
      ->check(CLI::IsMember({"muon", "adamw"}))
      ->capture_default_str();
  add_count(*command, "--segments", arguments->training.segments, "of a sequence of --train");
  add_count(*command, "--tokens", arguments->training.tokens, "of a step of --train");
  command->add_option("--share", arguments->training.share, "of the tokens of --train that are predicted")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  arguments->add_session_flags(*command);
  command->footer(R"(Each number is that of the fastest run, and beside it the median's. Reading is compared
with oneDNN's time for the projections and the window's two products; writing with the bandwidth at which
this machine reads as many bytes as a token needs (GB/s). The memory is open on every model, unless --memory
says otherwise.
--snapshot saves after whole segments of random tokens; it shows the size of a snapshot at each depth, and times
at the last one. Its depths are 10000 and 1000000, unless --depth says otherwise.
Training is compared with oneDNN's time for the products with weights, forward and backward, alone; FLOP/s count
these products. Without MODEL a small one is made: 4 layers, width 256, 4 heads of 64, hidden 704, vocabulary 2048,
segments of 64.
Examples:
  infini bench --train --threads 1
  infini bench model.gguf
  infini bench model.gguf --depth 0,8192 --compute bf16 --threads 2 --json
  infini bench model.gguf --batch 16      # what serving many users at once gains
  infini bench model.gguf --memory off    # a plain sliding window, to compare
  infini bench model.gguf --snapshot --folder /mnt/disk
)");
  command->callback([arguments, command, depth] {
    if (!arguments->train && arguments->model.empty()) throw CLI::RequiredError("MODEL");
    if (arguments->snapshot && depth->count() == 0) arguments->depths = "10000,1000000";
    bench(*arguments, command->get_option("--memory")->count() > 0);
  });
}

}  // namespace cli
