// Identities: 64 lower-case hexadecimal digits, of distinct C++ types for distinct things.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace base {

// 32 bytes of the kernel's randomness as 64 lower-case hexadecimal digits.
std::string RandomHex64();

// OK if `text` is exactly 64 lower-case hexadecimal digits, else INVALID_ARGUMENT.
absl::Status CheckHex64(std::string_view text);

// An id in hand is valid: it is a plain file name and cannot climb out of a directory.
template <typename Tag>
class Id {
 public:
  static absl::StatusOr<Id> Parse(std::string_view text) {
    absl::Status status = CheckHex64(text);
    if (!status.ok()) {
      return status;
    }
    return Id(std::string(text));
  }
  static Id Random() { return Id(RandomHex64()); }

  const std::string& str() const { return text_; }
  friend bool operator==(const Id&, const Id&) = default;
  friend auto operator<=>(const Id&, const Id&) = default;

 private:
  explicit Id(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

using PodId = Id<struct PodTag>;
using ContainerId = Id<struct ContainerTag>;

}  // namespace base
