// How far a transfer is, on a terminal or in a log.
#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace crispd {

// What is known of a transfer.
struct TransferState {
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;  // 0: not known.
  int layers_done = 0;
  int layers_total = 0;  // 0: not known.
  bool stalled = false;
};

// "12.3 MiB", with one digit after the point from KiB on.
std::string ByteText(uint64_t bytes);

// The lines of one transfer: what to print at which moment. Pure; one thread.
class ProgressBar {
 public:
  // `width`: of the terminal in characters; 0: it is none, whole lines are printed every few
  // seconds, without escape codes.
  ProgressBar(std::string label, int width, absl::Time now);

  // The text to print now; empty most of the time: a terminal is redrawn at most ten times a
  // second.
  std::string Update(const TransferState& state, absl::Time now);
  // What takes the bar away at the end.
  std::string Clear() const;

 private:
  std::string Line(const TransferState& state, absl::Time now) const;

  const std::string label_;
  const int width_;
  const absl::Time begin_;
  absl::Time printed_;
  bool is_drawn_ = false;
  // For the rate: the last seconds weigh most.
  absl::Time measured_;
  uint64_t measured_bytes_ = 0;
  double rate_ = 0;
};

}  // namespace crispd
