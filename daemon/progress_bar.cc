#include "daemon/progress_bar.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/strings.h"

namespace crispd {
namespace {

constexpr absl::Duration kRedraw = absl::Milliseconds(100);
constexpr absl::Duration kLineInterval = absl::Seconds(5);
constexpr absl::Duration kRateInterval = absl::Seconds(1);
constexpr double kNewWeight = 0.4;  // Of the last second in the rate.
constexpr int kBarWidth = 20;
constexpr int kShortestLabel = 12;

std::string Bar(double share) {
  const int full = static_cast<int>(share * kBarWidth);
  return base::StrCat("[", std::string(static_cast<size_t>(full), '='), full < kBarWidth ? ">" : "",
                      std::string(static_cast<size_t>(std::max(0, kBarWidth - full - 1)), ' '),
                      "]");
}

// "1h02m", "3m05s", "12s".
std::string ClockText(double seconds) {
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  if (whole >= 3600) return absl::StrFormat("%dh%02dm", whole / 3600, whole / 60 % 60);
  if (whole >= 60) return absl::StrFormat("%dm%02ds", whole / 60, whole % 60);
  return absl::StrFormat("%ds", whole);
}

// The label's end says more than its beginning.
std::string Shortened(const std::string& label, int width) {
  const auto room = static_cast<size_t>(std::max(width, kShortestLabel));
  return label.size() <= room ? label : base::StrCat("...", label.substr(label.size() - room + 3));
}

}  // namespace

std::string ByteText(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? base::StrCat(bytes, " B") : absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

ProgressBar::ProgressBar(std::string label, int width, absl::Time now)
    : label_(std::move(label)), width_(width), begin_(now), printed_(now), measured_(now) {}

std::string ProgressBar::Update(const TransferState& state, absl::Time now) {
  if (const absl::Duration passed = now - measured_; passed >= kRateInterval) {
    const uint64_t grown = std::max(state.bytes_done, measured_bytes_) - measured_bytes_;
    const double rate = static_cast<double>(grown) / absl::ToDoubleSeconds(passed);
    rate_ = rate_ == 0 ? rate : rate_ + kNewWeight * (rate - rate_);
    measured_ = now;
    measured_bytes_ = state.bytes_done;
  }
  if (now - printed_ < (width_ > 0 ? kRedraw : kLineInterval) && (is_drawn_ || width_ == 0)) {
    return "";
  }
  printed_ = now;
  is_drawn_ = true;
  return width_ > 0 ? base::StrCat("\r", Line(state, now), "\x1b[K")
                    : base::StrCat(Line(state, now), "\n");
}

std::string ProgressBar::Clear() const { return width_ > 0 && is_drawn_ ? "\r\x1b[K" : ""; }

std::string ProgressBar::Line(const TransferState& state, absl::Time now) const {
  std::string text;
  if (state.bytes_total > 0) {
    const uint64_t done = std::min(state.bytes_done, state.bytes_total);
    const double share = static_cast<double>(done) / static_cast<double>(state.bytes_total);
    text += base::StrCat(width_ > 0 ? Bar(share) + " " : "",
                         absl::StrFormat("%3d%% ", static_cast<int>(share * 100)), ByteText(done),
                         " of ", ByteText(state.bytes_total));
  } else if (state.bytes_done > 0) {
    text += ByteText(state.bytes_done);
  } else {
    text += "waiting";
  }
  if (state.layers_total > 0) {
    text += base::StrCat(", ", state.layers_done, " of ", state.layers_total, " layers");
  }
  if (state.stalled) {
    text += ", stands still";
  } else if (rate_ >= 1) {
    text += base::StrCat(", ", ByteText(static_cast<uint64_t>(rate_)), "/s");
    if (state.bytes_total > state.bytes_done) {
      text += base::StrCat(
          ", ", ClockText(static_cast<double>(state.bytes_total - state.bytes_done) / rate_),
          " left");
    }
  } else {
    text += base::StrCat(", ", ClockText(absl::ToDoubleSeconds(now - begin_)));
  }
  if (width_ == 0) {
    return base::StrCat(label_, ": ", text);
  }
  const int room = width_ - static_cast<int>(text.size()) - 2;
  std::string line = base::StrCat(Shortened(label_, room), " ", text);
  return line.substr(0, static_cast<size_t>(std::max(width_ - 1, 1)));
}

}  // namespace crispd
