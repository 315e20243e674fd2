#include "document.h"

#include <xxhash.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>

namespace shelf {
namespace {

using cli::check;

// Gives a file's bytes in pieces, and returns their hash.
std::string for_each_piece(const std::string &path, const std::function<void(std::span<const char>)> &take) {
  // A pipe could not be read again, which is what has to be done when another process changes the same memory.
  if (std::filesystem::exists(path) && !std::filesystem::is_regular_file(path))
    throw std::runtime_error(path + " is not a regular file; save the text in one first");
  const std::unique_ptr<std::FILE, int (*)(std::FILE *)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (!file) throw std::runtime_error("cannot open " + path + ": " + std::strerror(errno));
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t *)> hash(XXH3_createState(), XXH3_freeState);
  XXH3_128bits_reset(hash.get());
  std::vector<char> piece(size_t{1} << 16);
  while (const size_t size = std::fread(piece.data(), 1, piece.size(), file.get())) {
    XXH3_128bits_update(hash.get(), piece.data(), size);
    take(std::span(piece).first(size));
  }
  if (std::ferror(file.get())) throw std::runtime_error("cannot read " + path + ": " + std::strerror(errno));
  const XXH128_hash_t sum = XXH3_128bits_digest(hash.get());
  char digits[33];
  std::snprintf(digits, sizeof digits, "%016llx%016llx", static_cast<unsigned long long>(sum.high64),
                static_cast<unsigned long long>(sum.low64));
  return digits;
}

int64_t position(const infini_session *session) { return cli::value_of<int64_t>(infini_session_position, session); }

}  // namespace

std::string hash_of(const std::string &path) {
  return for_each_piece(path, [](std::span<const char>) {});
}

Document feed(infini_session *session, const std::string &path) {
  // The stream cuts the text where the cut does not change its tokens.
  const cli::TextStream stream = cli::make<cli::TextStream>(infini_text_stream_create);
  std::vector<char> text(size_t{1} << 16);  // as long as its pieces get
  const auto feed_ready = [&] {
    size_t size = 0;
    infini_status status;
    while ((status = infini_text_stream_next(stream.get(), text.data(), text.size(), &size)) == INFINI_OK)
      check(infini_session_feed_text(session, text.data(), size, nullptr));
    if (status != INFINI_END) check(status);
  };
  Document document;
  const int64_t before = position(session);
  try {
    document.hash = for_each_piece(path, [&](std::span<const char> piece) {
      check(infini_text_stream_push(stream.get(), piece.data(), piece.size()));
      document.size += static_cast<int64_t>(piece.size());
      feed_ready();
    });
    check(infini_text_stream_finish(stream.get()));
    feed_ready();
  } catch (const std::exception &error) {
    throw std::runtime_error(path + ": " + error.what() + "; the memory is as it was before this document");
  }
  document.name = path;
  document.tokens = position(session) - before;
  return document;
}

}  // namespace shelf
