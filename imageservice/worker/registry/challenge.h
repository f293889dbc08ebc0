// WWW-Authenticate (RFC 7235) and the answers of token servers: parsers of foreign text.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace imageservice::worker {

// One way a server accepts credentials: `Bearer realm="https://auth.io/token",service="reg.io"`.
struct Challenge {
  std::string scheme;                         // Lower case.
  std::map<std::string, std::string> params;  // Names in lower case.
};

// The challenges in one header value. Never fails: what cannot be understood is left out.
std::vector<Challenge> ParseChallenges(std::string_view header);

// A token and how long it may be used.
struct BearerToken {
  std::string token;
  int64_t lifetime_seconds = 60;        // From `issued_at` on.
  std::optional<absl::Time> issued_at;  // By the server's clock; it may not say.
};

// The body of a token server's answer; INVALID_ARGUMENT when it has no usable token. The error does
// not repeat the body.
absl::StatusOr<BearerToken> ParseTokenAnswer(std::string_view body);

// Whether `token` may stand in a header: printable ASCII without spaces, not absurdly long.
bool IsHeaderToken(std::string_view token);

}  // namespace imageservice::worker
