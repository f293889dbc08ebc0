// What CNI plugins print: results of ADD and errors (CNI 1.1.0, section 5; versions 0.3.0 on).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/json.h"

namespace network {

// Which of a pod's addresses is its primary one.
enum class IpPreference { kIpv4, kIpv6, kAsReturned };

// A result of ADD. `cni_version` is put in where the plugin left the version out.
// INVALID_ARGUMENT when it is none.
absl::StatusOr<base::Json> ParseCniResult(std::string_view text, std::string_view cni_version);

// The same for a result that is parsed already.
absl::StatusOr<base::Json> CheckCniResult(base::Json result, std::string_view cni_version);

// The pod's addresses in `result`, without prefix length and in canonical form, the primary first,
// each once: those that belong to the interface `ifname` inside the pod, or to no interface.
// INVALID_ARGUMENT when a member has the wrong type or an address is none.
absl::StatusOr<std::vector<std::string>> PodIps(const base::Json& result, std::string_view ifname,
                                                IpPreference preference);

// An error as plugins print it. Code 3: the plugin does not know the container, nothing is left to
// clean up; 11: try again later; 50: STATUS says that no pod can be attached; 51: and that attached
// ones may have lost connections.
struct CniError {
  int code = 0;
  std::string text;  // Message and details.
};
inline constexpr int kCniUnknownContainer = 3;
inline constexpr int kCniTryLater = 11;
inline constexpr int kCniLimitedConnectivity = 51;

// INVALID_ARGUMENT when `text` is no error object.
absl::StatusOr<CniError> ParseCniError(std::string_view text);

}  // namespace network
