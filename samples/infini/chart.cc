#include "chart.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>

#include "common.h"

namespace cli {
namespace {

constexpr double kWidth = 760, kHeight = 270;                       // of a chart
constexpr double kLeft = 76, kRight = 24, kTop = 58, kBottom = 48;  // margins around what is plotted
constexpr size_t kMostPoints = 1200;                                // of a line; a screen shows no more
// Okabe and Ito's colours, which the colour-blind tell apart.
constexpr const char *kColours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555"};

using Points = std::vector<std::pair<double, double>>;

std::string escaped(const std::string &text) {
  std::string out;
  for (const char letter : text) {
    switch (letter) {
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '&': out += "&amp;"; break;
      case '"': out += "&quot;"; break;
      default: out += static_cast<unsigned char>(letter) < ' ' ? ' ' : letter;
    }
  }
  return out;
}

const char *colour(int number) { return kColours[static_cast<size_t>(number) % std::size(kColours)]; }

// 12345 as "12,345", 0.25 as "0.25", 2.5e6 as "2.5M".
std::string number_text(double value) {
  const double size = std::abs(value);
  if (size >= 1e6 && size < 1e12) return size < 1e9 ? format("%.4gM", value / 1e6) : format("%.4gG", value / 1e9);
  return size >= 1000 && size < 1e6 ? grouped(std::llround(value)) : format("%.4g", value);
}

// What a chart shows between two ends, and where that lies in the picture.
struct Axis {
  double least, greatest, from, to;
  bool logarithmic = false;

  double operator()(double value) const {
    const double share =
        logarithmic ? std::log(value / least) / std::log(greatest / least) : (value - least) / (greatest - least);
    return from + share * (to - from);
  }

  // Round numbers, about so many.
  std::vector<double> ticks(int count) const {
    const double raw = (greatest - least) / count, power = std::pow(10, std::floor(std::log10(raw)));
    double step = power;
    for (const double factor : {2.0, 5.0, 10.0})
      if (step < raw * 0.999) step = factor * power;
    std::vector<double> out;
    const double first = std::ceil(least / step - 1e-9),
                 last = std::min(std::floor(greatest / step + 1e-9), first + 4 * count);
    for (int i = 0; first + i <= last && i <= 4 * count; ++i) out.push_back((first + i) * step + 0.0);  // -0 becomes 0
    return out;
  }
};

// Each point the mean of a stretch of neighbours.
Points thinned(const Points &points, size_t most) {
  if (points.size() <= most) return points;
  Points out;
  for (size_t bin = 0; bin < most; ++bin) {
    const size_t begin = bin * points.size() / most, end = (bin + 1) * points.size() / most;
    double x = 0, y = 0;
    for (size_t i = begin; i < end; ++i) x += points[i].first, y += points[i].second;
    const auto count = static_cast<double>(end - begin);
    out.emplace_back(x / count, y / count);
  }
  return out;
}

Points running_mean(const Points &points) {
  const size_t reach = points.size() / 60;
  std::vector<double> sum = {0};
  for (const auto &[x, y] : points) sum.push_back(sum.back() + y);
  Points out;
  for (size_t i = 0; i < points.size(); ++i) {
    const size_t begin = i - std::min(i, reach), end = std::min(i + reach + 1, points.size());
    out.emplace_back(points[i].first, (sum[end] - sum[begin]) / static_cast<double>(end - begin));
  }
  return out;
}

class Drawing {
 public:
  Drawing(const Chart &chart, double top) : chart_(chart), top_(top) {
    for (Series &series : chart_.series)
      std::erase_if(series.points, [&](const auto &point) {
        constexpr double kGreatest = 1e100;  // beyond it differences overflow
        return !(std::abs(point.first) < kGreatest && std::abs(point.second) < kGreatest) ||
               (chart.powers_of_two && point.first <= 0);
      });
    measure();
  }

  std::string draw() {
    text(kLeft, top_ + 22, chart_.title, "class=\"title\"");
    legend();
    frame();
    if (chart_.categories.empty()) {
      for (const Series &series : chart_.series) line(series);
    } else {
      bars();
    }
    return out_;
  }

 private:
  double bottom() const { return top_ + kHeight - kBottom; }

  void measure() {
    double x_least = INFINITY, x_greatest = -INFINITY, y_least = INFINITY, y_greatest = -INFINITY;
    for (const Series &series : chart_.series)
      for (const auto &[x, y] : series.points) {
        x_least = std::min(x_least, x), x_greatest = std::max(x_greatest, x);
        y_least = std::min(y_least, y), y_greatest = std::max(y_greatest, y);
      }
    if (x_least > x_greatest) x_least = y_least = 0, x_greatest = y_greatest = 1;  // nothing to show
    if (chart_.percent) y_least = 0, y_greatest = 100;
    if (chart_.unit) y_least = 0, y_greatest = 1;
    if (!chart_.categories.empty()) y_least = std::min(0.0, y_least), y_greatest = std::max(0.0, y_greatest);
    // Numbers that differ in their last digits alone are one.
    const auto same = [](double a, double b) { return b - a <= 1e-12 * std::max(std::abs(a), std::abs(b)); };
    if (same(y_least, y_greatest))
      y_least -= 0.5 + std::abs(y_least) * 0.01, y_greatest += 0.5 + std::abs(y_greatest) * 0.01;
    if (!chart_.percent && !chart_.unit) {
      const double room = (y_greatest - y_least) * 0.06;
      if (y_least != 0) y_least -= room;
      y_greatest += room;
    }
    if (same(x_least, x_greatest)) {
      if (chart_.powers_of_two) x_least /= 2, x_greatest *= 2;
      else x_least -= 0.5 + std::abs(x_least) * 0.01, x_greatest += 0.5 + std::abs(x_greatest) * 0.01;
    }
    x_ = {x_least, x_greatest, kLeft + (chart_.powers_of_two ? 16 : 0),
          kWidth - kRight - (chart_.powers_of_two ? 16 : 0), chart_.powers_of_two};
    y_ = {y_least, y_greatest, bottom(), top_ + kTop, false};
  }

  void add(const std::string &element) { out_ += element + "\n"; }

  void text(double x, double y, const std::string &content, const std::string &attributes) {
    if (!content.empty())
      add(format("<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, attributes.c_str()) + escaped(content) + "</text>");
  }

  // From left to right under the title, in as many rows as it takes: one.
  void legend() {
    double x = kLeft;
    const double y = top_ + 42;
    for (const Series &series : chart_.series) {
      if (series.label.empty()) continue;
      const double width = 34 + 6.6 * static_cast<double>(series.label.size());
      if (x + width > kWidth) return text(x, y + 4, "...", "class=\"small\"");
      if (chart_.categories.empty())
        add(format("<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" class=\"mean\"%s/>", x, x + 20,
                   y, y, colour(series.colour), dash(series)));
      else
        add(format("<rect x=\"%.1f\" y=\"%.1f\" width=\"12\" height=\"12\" fill=\"%s\"/>", x + 4, y - 6,
                   colour(series.colour)));
      text(x + 26, y + 4, series.label, "class=\"small\"");
      x += width + 8;
    }
  }

  static const char *dash(const Series &series) { return series.dashed ? " stroke-dasharray=\"5 3\"" : ""; }

  void frame() {
    for (const double tick : y_.ticks(5)) {
      add(format("<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" class=\"%s\"/>", kLeft, kWidth - kRight,
                 y_(tick), y_(tick), "grid"));
      text(kLeft - 8, y_(tick) + 4, number_text(tick) + (chart_.percent ? " %" : ""),
           "class=\"small\" text-anchor=\"end\"");
    }
    add(format("<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" class=\"axis\"/>", kLeft, kWidth - kRight,
               bottom(), bottom()));
    const std::string centred = "class=\"small\" text-anchor=\"middle\"";
    if (chart_.categories.empty()) {
      double after = -INFINITY;  // where the last label ends
      for (const double tick : x_ticks()) {
        const std::string label = chart_.powers_of_two && std::fmod(tick, 1024) == 0
                                      ? length_text(static_cast<int64_t>(tick))
                                      : number_text(tick);
        const double half = 3.4 * static_cast<double>(label.size());
        add(format("<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" class=\"axis\"/>", x_(tick), x_(tick),
                   bottom(), bottom() + 4));
        if (x_(tick) - half < after + 6) continue;
        text(x_(tick), bottom() + 18, label, centred);
        after = x_(tick) + half;
      }
    }
    text((kLeft + kWidth - kRight) / 2, bottom() + 36, chart_.x_label, centred);
    const double middle = (top_ + kTop + bottom()) / 2;
    text(14, middle, chart_.y_label, centred + format(" transform=\"rotate(-90 14 %.1f)\"", middle));
  }

  std::vector<double> x_ticks() const {
    if (!chart_.powers_of_two) return x_.ticks(7);
    std::set<double> all;
    for (const Series &series : chart_.series)
      for (const auto &[x, y] : series.points) all.insert(x);
    return {all.begin(), all.end()};
  }

  void polyline(const Series &series, const Points &points, const char *kind) {
    std::string path;
    for (const auto &[x, y] : thinned(points, kMostPoints))
      path += format("%.1f,%.1f ", x_(x), std::clamp(y_(y), top_ + kTop - 4, bottom() + 4));
    add(format("<polyline class=\"%s\" stroke=\"%s\"%s points=\"", kind, colour(series.colour), dash(series)) + path +
        "\"/>");
  }

  void line(const Series &series) {
    const bool noisy = series.noisy && series.points.size() >= 120;
    if (noisy) polyline(series, series.points, "raw");
    polyline(series, noisy ? running_mean(series.points) : series.points, "mean");
    if (series.points.size() > 40) return;
    for (const auto &[x, y] : series.points)
      add(format("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>", x_(x), y_(y), colour(series.colour)));
  }

  void bars() {
    const auto groups = static_cast<double>(chart_.categories.size());
    const double group = (kWidth - kRight - kLeft) / groups,
                 bar = group * 0.76 / std::max<double>(1, static_cast<double>(chart_.series.size()));
    for (size_t i = 0; i < chart_.categories.size(); ++i)
      text(kLeft + group * (static_cast<double>(i) + 0.5), bottom() + 18, chart_.categories[i],
           "class=\"small\" text-anchor=\"middle\"");
    double offset = group * 0.12;
    for (const Series &series : chart_.series) {
      for (const auto &[category, value] : series.points) {
        if (category < 0 || category >= groups) continue;
        const double x = kLeft + group * std::floor(category) + offset, y = y_(value), zero = y_(0);
        add(format("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>", x + 1, std::min(y, zero),
                   std::max(1.0, bar - 2), std::abs(zero - y), colour(series.colour)));
        if (bar > 24)
          text(x + bar / 2, std::min(y, zero) - 5, number_text(value), "class=\"small\" text-anchor=\"middle\"");
      }
      offset += bar;
    }
  }

  Chart chart_;
  double top_;
  Axis x_{}, y_{};
  std::string out_;
};

}  // namespace

std::string svg(const std::vector<Chart> &charts) {
  const double height = kHeight * static_cast<double>(charts.size()) + 8;
  std::string out =
      format("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\">\n",
             kWidth, height, kWidth, height);
  out +=
      "<style>\n"
      "text { font-family: 'DejaVu Sans', Verdana, sans-serif; fill: #333 }\n"
      ".title { font-size: 15px; font-weight: bold }\n"
      ".small { font-size: 11px }\n"
      ".grid { stroke: #e4e4e4 }\n"
      ".axis { stroke: #888 }\n"
      ".mean { fill: none; stroke-width: 1.8; stroke-linejoin: round }\n"
      ".raw { fill: none; stroke-width: 0.8; opacity: 0.3 }\n"
      "</style>\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
  double top = 4;
  for (const Chart &chart : charts) {
    out += Drawing(chart, top).draw();
    top += kHeight;
  }
  return out + "</svg>\n";
}

}  // namespace cli
