// Nothing depends on the locale of the host.
#include <locale>

#include "base/options.h"
#include "base/status.h"
#include "stream/session.h"
#include "support.h"

using namespace infini;

namespace {

struct Grouping : std::numpunct<char> {
  char do_decimal_point() const override { return ','; }
  char do_thousands_sep() const override { return '.'; }
  std::string do_grouping() const override { return "\1"; }
};

// The host's locale, for a while.
struct Hostile {
  Hostile() { std::locale::global(std::locale(std::locale::classic(), new Grouping)); }
  ~Hostile() { std::locale::global(before); }
  std::locale before;
};

}  // namespace

TEST_CASE("numbers in messages are written in one way") {
  const Hostile host;
  CHECK(cat(1234567, " ", size_t{1000}, " ", int64_t{-5000}, " ", 1.5, " ", 0.25f, ' ', true, std::string("x")) ==
        "1234567 1000 -5000 1.5 0.25 1x");
  CHECK(cat(1e30, " ", 1234567.0, " ", INFINITY, " ", -INFINITY, " ", 0.1) == "1e+30 1.23457e+06 inf -inf 0.1");
}

TEST_CASE("a snapshot with as many checkpoints as an option may ask for is read under any locale") {
  CreateConfig config;
  config.layers = 1, config.width = 8, config.heads = 1, config.kv_heads = 1, config.hidden = 8, config.vocabulary = 16,
  config.segment = 2;
  const auto model = Model::create(config, {});
  Options options;
  options.set("checkpoints", int64_t{4096});
  Session session(model, options), other(model, options);
  session.feed(std::vector<int32_t>(8301, 3));
  std::vector<std::byte> bytes;
  {
    const Hostile host;
    bytes = session.save(Session::SnapshotKind::SESSION, {});
  }
  CHECK(bytes == session.save(Session::SnapshotKind::SESSION, {}));
  other.restore(bytes);
  CHECK(other.boundaries() == session.boundaries());
  const Hostile host;
  other.restore(bytes);
  CHECK(other.position() == 8301);
  CHECK(other.boundaries().size() == 4096);
}

TEST_CASE("an integer that is too large, and one with a fraction, are refused as what they are") {
  Options options;
  const auto message_of = [&](const char *name, double value) -> std::string {
    try {
      options.set(name, value);
    } catch (const Error &error) { return error.what(); }
    return "";
  };
  CHECK(message_of("seed", 1e30).find("option 'seed' is 1e+30, but must lie between 0 and 9223372036854775807") == 0);
  CHECK(message_of("seed", 0x1p63).find("must lie between 0 and 9223372036854775807") != std::string::npos);
  CHECK(message_of("seed", -1).find("option 'seed' is -1, but must lie between 0 and") == 0);
  CHECK(message_of("chunk", 1.5).find("takes an integer, not a number with a fraction") != std::string::npos);
  CHECK(message_of("chunk", 5000).find("between 1 and 4096") != std::string::npos);
  CHECK(message_of("stop", 1).find("takes a text, not a number") != std::string::npos);
  CHECK(message_of("chunk", NAN).find("fraction") != std::string::npos);
  CHECK(message_of("chunk", 64).empty());
  CHECK(options.get_int("chunk") == 64);
}
