#include "runtimeservice/pod_ranges.h"

#include <arpa/inet.h>

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/files.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

constexpr size_t kMostRanges = 16;
constexpr size_t kMostBytes = 4096;

bool IsRange(const std::string& text) {
  const size_t slash = text.find('/');
  // SimpleAtoi takes signs and white space, too.
  int bits = -1;
  if (slash == std::string::npos || text.size() - slash > 4 ||
      text.find_first_not_of("0123456789", slash + 1) != std::string::npos ||
      !absl::SimpleAtoi(text.substr(slash + 1), &bits)) {
    return false;
  }
  unsigned char bytes[sizeof(in6_addr)];
  const std::string address = text.substr(0, slash);
  return (inet_pton(AF_INET, address.c_str(), bytes) == 1 && bits <= 32) ||
         (inet_pton(AF_INET6, address.c_str(), bytes) == 1 && bits <= 128);
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ParsePodRanges(std::string_view text) {
  std::vector<std::string> ranges;
  if (text.empty()) {
    return ranges;
  }
  if (text.size() <= kMostBytes) {
    ranges = absl::StrSplit(base::ToAbsl(text), ',');
  }
  if (ranges.empty() || ranges.size() > kMostRanges) {
    return absl::InvalidArgumentError("runtime_config.network_config.pod_cidr is too long");
  }
  for (const std::string& range : ranges) {
    if (!IsRange(range)) {
      return absl::InvalidArgumentError(base::StrCat("runtime_config.network_config.pod_cidr: \"",
                                                     range, "\" is not a range of addresses"));
    }
  }
  return ranges;
}

PodRanges::PodRanges(std::string path) : path_(std::move(path)) {
  const absl::StatusOr<std::string> text = base::ReadFile(path_, kMostBytes);
  if (absl::IsNotFound(text.status())) {
    return;
  }
  absl::StatusOr<std::vector<std::string>> ranges =
      text.ok() ? ParsePodRanges(*text) : text.status();
  if (!ranges.ok()) {
    base::LogError(path_, ": ", base::ToStd(ranges.status().message()));
    return;
  }
  ranges_ = *std::move(ranges);
}

absl::Status PodRanges::Set(std::string_view text) {
  ASSIGN_OR_RETURN(std::vector<std::string> ranges, ParsePodRanges(text));
  if (ranges.empty() || ranges == Get()) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(base::ReplaceFile(path_, text, 0600, base::Durability::kDurable));
  base::LogInfo("pod addresses of this node: ", text);
  base::MutexLock lock(&mutex_);
  ranges_ = std::move(ranges);
  return absl::OkStatus();
}

std::vector<std::string> PodRanges::Get() const {
  base::MutexLock lock(&mutex_);
  return ranges_;
}

}  // namespace runtimeservice
