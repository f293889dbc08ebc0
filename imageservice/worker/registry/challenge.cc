#include "imageservice/worker/registry/challenge.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/protocol.h"

namespace imageservice::worker {
namespace {

constexpr int64_t kShortestLifetime = 60;  // Docker token specification: also when none is given.
constexpr int64_t kLongestLifetime = 30 * 24 * 3600;

bool IsTokenChar(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

// A position in a header value.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  bool AtEnd() const { return text_.empty(); }
  void Skip() { text_.remove_prefix(1); }
  bool SkipIf(char c) {
    if (!text_.starts_with(c)) {
      return false;
    }
    Skip();
    return true;
  }
  void SkipSpaces() {
    while (text_.starts_with(' ') || text_.starts_with('\t')) {
      Skip();
    }
  }
  std::string Token() {
    size_t length = 0;
    while (length < text_.size() && IsTokenChar(text_[length])) {
      ++length;
    }
    std::string token(text_.substr(0, length));
    text_.remove_prefix(length);
    return token;
  }
  // A quoted or bare value.
  std::string Value() {
    std::string value;
    if (!SkipIf('"')) {
      const size_t length = std::min(text_.find_first_of(", \t"), text_.size());
      value = text_.substr(0, length);
      text_.remove_prefix(length);
      return value;
    }
    while (!AtEnd() && !SkipIf('"')) {
      if (SkipIf('\\') && AtEnd()) {
        break;
      }
      value += text_.front();
      Skip();
    }
    return value;
  }

 private:
  std::string_view text_;
};

}  // namespace

std::vector<Challenge> ParseChallenges(std::string_view header) {
  std::vector<Challenge> challenges;
  Scanner scanner(header);
  while (!scanner.AtEnd()) {
    scanner.SkipSpaces();
    const std::string word = absl::AsciiStrToLower(scanner.Token());
    scanner.SkipSpaces();
    if (word.empty()) {
      if (!scanner.AtEnd()) {
        scanner.Skip();  // A comma, or something that does not belong here.
      }
    } else if (!scanner.SkipIf('=')) {
      challenges.push_back({word, {}});
    } else {
      scanner.SkipSpaces();
      std::string value = scanner.Value();
      if (!challenges.empty()) {
        challenges.back().params.emplace(word, std::move(value));
      }
    }
  }
  return challenges;
}

bool IsHeaderToken(std::string_view token) {
  return !token.empty() && token.size() <= kMaxTokenBytes &&
         std::ranges::all_of(token, [](char c) { return c > 0x20 && c < 0x7f; });
}

absl::StatusOr<BearerToken> ParseTokenAnswer(std::string_view body) {
  const absl::StatusOr<base::Json> json = base::ParseJson(body);
  if (!json.ok()) {
    return absl::InvalidArgumentError("the token server's answer is no JSON");
  }
  BearerToken answer;
  ASSIGN_OR_RETURN(answer.token, base::JsonString(*json, "token"));
  if (answer.token.empty()) {
    ASSIGN_OR_RETURN(answer.token, base::JsonString(*json, "access_token"));
  }
  if (!IsHeaderToken(answer.token)) {
    return absl::InvalidArgumentError("the token server's answer has no usable token");
  }
  const base::Json& lifetime = base::JsonMember(*json, "expires_in");
  if (lifetime.is_number_integer()) {
    answer.lifetime_seconds =
        std::clamp(lifetime.get<int64_t>(), kShortestLifetime, kLongestLifetime);
  }
  const absl::StatusOr<std::string> issued = base::JsonString(*json, "issued_at");
  absl::Time time;
  if (issued.ok() && absl::ParseTime(absl::RFC3339_full, *issued, &time, nullptr)) {
    answer.issued_at = time;
  }
  return answer;
}

}  // namespace imageservice::worker
