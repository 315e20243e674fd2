// std::from_chars of floating-point numbers, which Apple's library lacks.
#pragma once

#include <charconv>
#ifdef __APPLE__
#include <xlocale.h>

#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <string>
#endif

namespace infini {

template <class Number>
std::from_chars_result real_from_chars(const char *begin, const char *end, Number &value) {
#ifdef __APPLE__
  // What strtod takes beyond from_chars: spaces, a plus, hexadecimal numbers.
  const std::string text(begin, end);
  const size_t sign = text.starts_with('-');
  if (std::isspace(static_cast<unsigned char>(text[0])) || text[0] == '+') return {begin, std::errc::invalid_argument};
  if (text.find_first_of("xX", sign) == sign + 1) return value = 0, std::from_chars_result{begin + sign + 1, {}};
  char *stop = nullptr;
  errno = 0;
  const double number = strtod_l(text.c_str(), &stop, nullptr);  // in the C locale
  if (stop == text.c_str()) return {begin, std::errc::invalid_argument};
  const char *const at = begin + (stop - text.c_str());
  if (errno == ERANGE) return {at, std::errc::result_out_of_range};
  value = static_cast<Number>(number);
  return {at, {}};
#else
  return std::from_chars(begin, end, value);
#endif
}

}  // namespace infini
