// Charts as SVG: lines and bars, stacked in one picture.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace cli {

struct Series {
  std::string label;                              // "": not in the legend
  std::vector<std::pair<double, double>> points;  // x ascending; bars: x is the number of the category
  int colour = 0;
  bool dashed = false;
  bool noisy = false;  // drawn pale, with its running mean over it
};

struct Chart {
  std::string title, x_label, y_label;
  std::vector<Series> series;
  std::vector<std::string> categories;  // of bars; empty: lines
  bool powers_of_two = false;           // x is logarithmic, and its ticks are where points are: 4K, 32K, 1M
  bool percent = false;                 // y goes from 0 to 100
  bool unit = false;                    // y goes from 0 to 1
};

// Points that are not finite numbers, or are beyond 1e100, are left out.
std::string svg(const std::vector<Chart> &charts);

}  // namespace cli
